//! The old firmware's test vectors. Where a row says `fixed`, the quirk policy has the engine do better than the
//! original, and the row names what the original did.
use crate::support::{Bench, console};
use midge_rules::{Input, Level, Oddities, Oddity, Reply, Side};

/// Whole scripts: what they print at their start, or the error.
#[test]
fn scripts_print_what_the_original_prints() {
    for (script, expected) in [
        ("on init do println 2+3*4", "14~"),
        ("on init do println 10-3-2", "9~"),
        ("on init do println (10-3)-2", "5~"),
        ("on init do println (1+2)*3", "9~"),
        ("on init do println 100 div 7", "14~"),
        (r#"on init do println "-5"+3"#, "-2~"),
        ("on init do println 0-7 div 2", "-3~"),
        (r#"on init do println "a"|1+2"#, "a3~"),
        (r#"on init do println "1" | "2" + 3"#, "15~"),
        (r#"on init do println ("a"="b")+1"#, "1~"),
        (r#"on init do println "a"|"b"="ab""#, "a0~"),
        (r#"on init do println not(0)|"z""#, "1z~"),
        ("on init do println 11 str_gt 012", "1~"),
        (r"on init do println a\ b", "a b~"),
        (r#"on init do println "q\"q""#, "q\"q~"),
        (r#"on init do println "x%y""#, "x%y~"),
        ("on init do println x%c\ny", "xy~"),
        (r#"on init do println substr("hello world",6,5)"#, "world~"),
        (r#"on init do println substr("hello","-3",2)"#, "ll~"),
        (r#"on init do println substr("abcdef","-10",3)"#, "abc~"),
        (r#"on init do println csvstr("a/b/c",1,/)"#, "b~"),
        (r#"on init do println csvstr("one,two,,three",2,",")|".""#, ".~"),
        (r#"on init do println byte_val("ABC",0)"#, "65~"),
        ("on init do println binary(321)", "A~"),
        (r#"on init do println eatwhite("a b  c")"#, "abc~"),
        (r#"on init do setvar $i=0 while 3>$i do println $i setvar $i=$i+1 done println "end""#, "0~1~2~end~"),
        (r#"on init do if 1 then println "x" done println "z""#, "x~z~"),
        (r#"on init do if "2x" then println 2 endif if "abc" then println 1 endif"#, "2~"),
        (r#"on init do setvar $x = "" setvar $y = $x|$x println "["|$y|"]""#, "[]~"),
        (r#"on init do setvar $n=2 println substr("hello",$n,2)"#, "he~"),
        (r#"on init do setvar @1 = "abc" setvar @1 = @1|"d" println @1"#, "abcd~"),
        ("on init do setvar $r = @2+1 println $r", "1~"),
        // §1.6 and §1.7 beside the table.
        (r#"on init do println "1.9"+0"#, "1~"),
        (r#"on init do println "0x10"+0"#, "0~"),
        ("on init do println 2147483647+1", "-2147483648~"),
        ("on init do println 100000*100000", "1410065408~"),
        ("on init do println 2*3+4", "14~"),
        ("on init do println 7 div 2*2", "1~"),
        ("on init do println done", "done~"),
        ("on init do", ""),
    ] {
        assert_eq!(console(&format!("{script}\n")), expected, "{script}");
    }
}

#[test]
fn errors_are_worded_and_placed_as_the_original_has_them() {
    for (script, expected) in [
        ("on init do println -5", "Error (action command expected) at >>5 "),
        ("on init do println 5 str_ge 4", "Error (action command expected) at >>str_ge 4 "),
        ("on init do println $undef", "Error (unknown var name) at >>$undef "),
        ("on init do println", "Error (end of text) at >>"),
        ("on init println 1", "Error ('do' expected) at >>println 1 "),
        ("foo bar", "Error ('on' or 'config' expected) at >>foo bar "),
        ("ON init do println 1", "Error ('on' or 'config' expected) at >>ON init do println 1 "),
        ("on bogus do println 1", "Error (event spec (like 'topic') expected) at >>bogus do println 1 "),
        ("on timer 9 do println 1", "Error (invalid timer number) at >>9 do println 1 "),
        ("on gpio_interrupt 0 do println 1", "Error (expected 'pullup' or 'nopullup') at >>do println 1 "),
        ("on topic foo bar do println 1", "Error ('local' or 'remote' expected) at >>println 1 "),
        ("on init do publish foo bar 1", "Error ('local' or 'remote' expected) at >>foo bar 1 "),
        ("on init do publish local # 1", "Error (number of hexdigits must be multiple of 2) at >># 1 "),
        ("on init do publish local a-b 1", "Error (action command expected) at >>b 1 "),
        ("on init do println $this_data", "Error (undefined $this_data) at >>$this_data "),
        ("on init do setvar a=1", "Error (invalid var identifier) at >>setvar a = 1 "),
        (r#"on init do if 1 then println "x" else println "y" println "z""#, "Error ('endif' expected) at >>\"z "),
        ("on init do println 1 endif println 2", "Error ('on' or 'config' expected) at >>println 2 "),
        (
            "on init do gpio_pwm 2 500 gpio_pinmode 2 input",
            "Error (pin defined as pwm before) at >>gpio_pinmode 2 input ",
        ),
        (r#"on init do settimer "1" 100"#, "Error (invalid timer number) at >>\"1 100 "),
        // §1.4 beside the table.
        (r#"on init do println"x""#, "Error (action command expected) at >>println\"x "),
        ("on init do while 1 do println 1 endif", "Error ('done' expected) at >>endif "),
        ("on init do println @9 a b", "Error (invalid flash slot number) at >>b "),
        ("on init do setvar @9 = 1", "Error (invalid flash var number) at >>@9 = 1 "),
        ("on init do println not 1 2 3", "Error (expected '(') at >>not 1 2 3 "),
        ("on init do println eatwhite 1 2 3", "Error (expected '(') at >>1 2 3 "),
        ("on init do println (1 2", "Error (expected ')') at >>2 "),
        ("on init do gpio_out 17 1", "Error (invalid gpio number) at >>17 1 "),
        ("on gpio_interrupt 17 pullup do println 1", "Error (invalid gpio number) at >>17 pullup do println 1 "),
        ("on alarm 7 do println 1", "Error (invalid alarm number) at >>7 do println 1 "),
        ("on init do setalarm 7 1", "Error (invalid alarm number) at >>7 1 "),
        ("on init do gpio_pinmode 3 foo", "Error (expected 'input' or 'output') at >>foo "),
        ("on init do if 1 println 2", "Error ('then' expected) at >>println 2 "),
        ("on init do while 1 println 2", "Error ('do' expected) at >>println 2 "),
        ("on init do setvar $a 1 2", "Error ('=' expected) at >>1 2 "),
        (r#"on init do println substr("a" 1 2) x y z"#, "Error (expected ',') at >>1 2 ) x y z "),
        ("on init do println csvstr(a,1,b x y", "Error (expected ')') at >>x y "),
        ("on init do println #abc", "Error (number of hexdigits must be multiple of 2) at >>#abc "),
        ("on init do println retained_topic a b c", "Error (expected '(') at >>retained_topic a b c "),
        ("on init do println gpio_in a b c", "Error (expected '(') at >>gpio_in a b c "),
        ("on init do println json_parse a b c d e f g", "Error (expected '(') at >>a b c d e f g "),
        ("on init do subscribe foo bar baz qux", "Error ('local' or 'remote' expected) at >>qux "),
        ("on init do unsubscribe foo bar baz qux", "Error ('local' or 'remote' expected) at >>qux "),
        ("on init do println $this_gpio", "Error (undefined $this_gpio) at >>$this_gpio "),
        // `config` is looked at when it is executed.
        ("config ssid", ""),
    ] {
        assert_eq!(console(&format!("{script}\n")), expected, "{script}");
    }
}

#[test]
fn scripts_that_end_too_early_say_so() {
    for script in [
        // Where the original reads past its tokens.
        "on init do publish local t 1 +",
        "on init do println substr(a,",
        "on init do http_post u d",
        "on init do gpio_pwm 2",
        // The least that must follow: one word less is the end of the text.
        "on topic local",
        "on timer",
        "on gpio_interrupt 1",
        "on init do publish local t",
        "on init do subscribe local",
        "on init do if 1 then",
        "on init do settimer 1",
        "on init do setvar $a =",
        "on init do http_get",
        "on init do gpio_out 1",
        "on init do println not(1",
        "on init do println (",
    ] {
        assert_eq!(console(&format!("{script}\n")), "Error (end of text) at >>", "{script}");
    }
}

/// The buffer of an error message has 128 bytes: a word that does not fit is left out, a shorter one after it is not.
#[test]
fn long_words_are_left_out_of_errors() {
    let long = "x".repeat(120);
    assert_eq!(console(&format!("foo {long} bar\n")), "Error ('on' or 'config' expected) at >>foo bar ");
}

#[test]
fn http_post_takes_a_comma() {
    let mut bench = Bench::new(r#"on init do http_post "http://h/p" , "data" println "x""#);
    assert_eq!(bench.said(), [r#"http POST http://h/p "data""#, r#"print "x\r\n""#]);
}

#[test]
fn topic_clauses_hear_what_matches() {
    let mut bench = Bench::new(
        r#"on init do subscribe local "a/#"
           on topic local "a/+" do println $this_topic|"="|$this_data"#,
    );
    bench.local("a/1", b"hello");
    bench.local("a/1/2", b"y");
    assert_eq!(bench.console(), "a/1=hello~");
}

#[test]
fn messages_are_handed_on_to_the_remote_broker() {
    let mut bench = Bench::new(
        r#"on init do subscribe local "a/#"
           on topic local "a/+" do publish remote $this_topic $this_data retained"#,
    );
    bench.local("a/1", b"hello");
    assert_eq!(bench.said(), ["subscribe local a/#"], "nothing while it is not connected");
    bench.input(Input::RemoteConnected);
    bench.local("a/1", b"hello");
    assert_eq!(bench.said(), [r#"publish remote a/1 "hello" retained"#]);
}

/// Policy row "DATA topic refused": O.
#[test]
fn a_topic_of_binary_kind_ends_the_clause() {
    let script = r#"on init do subscribe local cmd
        on topic local cmd do setvar $t = $this_data publish local $t 1 println "n""#;
    let mut bench = Bench::new(script);
    bench.local("cmd", b"x/y");
    assert_eq!(bench.said(), ["subscribe local cmd", "fault topic at 2:54: invalid topic string"]);
}

#[test]
fn alarms_go_off_at_their_time_every_day() {
    let mut bench = Bench::new("on init do setalarm 1 \"12:34:58\"\non alarm 1 do println \"A\"");
    for (day, time, expected) in [
        (0, "12:34:56", ""),
        (0, "12:34:57", ""),
        (0, "12:34:58", "A~"),
        (0, "12:34:59", ""),
        (1, "00:00:00", ""),
        (1, "12:34:58", "A~"),
    ] {
        bench.clock(day, time);
        assert_eq!(bench.console(), expected, "{day} {time}");
    }
}

/// Policy row "`00:00:00` alarm never fires": fixed. The original prints nothing.
#[test]
fn fixed_an_alarm_at_midnight_goes_off() {
    let mut bench = Bench::new("on init do setalarm 1 00:00:00\non alarm 1 do println \"m\"");
    bench.clock(0, "23:59:59");
    assert_eq!(bench.console(), "");
    bench.clock(1, "00:00:00");
    assert_eq!(bench.console(), "m~");
    bench.clock(1, "00:00:01");
    assert_eq!(bench.console(), "");
}

#[test]
fn http_answers_are_events() {
    let script = r#"on init do http_get "http://host/path"
        on http_response do println $this_http_code|" "|$this_http_host|$this_http_path"#;
    let mut bench = Bench::new(script);
    bench.reply(Reply::Answered { code: 200, body: b"" });
    assert_eq!(bench.console(), "200 host/path~");
    let mut bench = Bench::new(script);
    bench.reply(Reply::Failed);
    assert_eq!(bench.console(), " -1 host/path~");
}

#[test]
fn both_clauses_of_a_pin_run() {
    let clause = "on gpio_interrupt 0 pullup do println $this_gpio\n";
    let mut bench = Bench::new(&clause.repeat(2));
    bench.things.pins.insert(0, Level::High);
    bench.input(Input::Edge { pin: 0 });
    assert_eq!(bench.console(), "", "the level is read 50 ms after the edge");
    bench.after(50);
    assert_eq!(bench.console(), "1~1~");
}

/// Policy row "bare `on` / `config` as value": fixed. In the original the word hides every clause after it.
#[test]
fn fixed_a_bare_on_hides_nothing() {
    let script = "on init do setvar $x=1 settimer 2 1\n\
                  on timer 1 do if $x = on then println \"a\" endif\n\
                  on timer 2 do println \"t\"";
    let mut bench = Bench::new(script);
    bench.after(1);
    assert_eq!(bench.console(), "t~");
}

fn dangling(a: u8, b: u8) -> String {
    format!(
        "on init do setvar $a={a} setvar $b={b}\n\
         if $a then\n  if $b then println \"X\" endif\nelse\n  println \"Y\"\nendif\nprintln \"Z\"\n"
    )
}

/// Policy row "dangling `else`": O. The original is the default in `compat`.
#[test]
fn an_else_after_endif_belongs_to_the_inner_if() {
    assert_eq!(console(&dangling(1, 0)), "Y~Z~");
    assert_eq!(console(&dangling(0, 1)), "");
    assert_eq!(console(&dangling(1, 1)), "X~Z~");
    let fixed = |a, b| {
        let oddities = Oddities { dangling_else: Oddity::Fixed, ..Oddities::default() };
        Bench::with(&dangling(a, b), oddities, Default::default()).console()
    };
    assert_eq!(fixed(1, 0), "Z~");
    assert_eq!(fixed(0, 1), "Y~Z~");
}

/// Path, text, result. Policy row "json_parse gaps": fixed, where the original's result is given besides.
#[test]
fn json_values_are_found() {
    const NAME: &str = r#"{"name":{"first":"John"},"age":30}"#;
    const CARS: &str = r#"{"cars":["Ford","BMW"]}"#;
    for (path, json, expected, original) in [
        ("name.first", NAME, "John", None),
        ("age", NAME, "30", None),
        ("name", NAME, "John", None),
        ("cars.1", CARS, "BMW", None),
        ("cars[0]", CARS, "Ford", None),
        ("cars.5", CARS, "", None),
        ("x", r#"{"x":12.50}"#, "12.50", None),
        ("x", r#"{"x":-3}"#, "-3", Some("")),
        ("x", r#"{"x":true}"#, "true", Some("")),
        ("y", r#"{"x":null,"y":5}"#, "5", Some("")),
        ("0", r#"["a"]"#, "a", Some("")),
        ("a.1.b", r#"{"a":[{"b":1},{"b":3}]}"#, "3", Some("")),
        ("y", r#"{"x":[],"y":5}"#, "5", Some("")),
        ("x", r#"{ "x" : 1 }"#, "1", None),
        ("y", r#"{"y":5"#, "5", None),
        ("name", r#"{"na":1,"name":2}"#, "2", Some("1")),
    ] {
        let script =
            |json: &str| format!("on init do println json_parse(\"{path}\", \"{}\")", json.replace('"', "\\\""));
        assert_eq!(console(&script(json)), format!("{expected}~"), "{path} in {json}");
        assert_ne!(original, Some(expected), "a row marked fixed differs");
    }
}

/// [quirk:matching] §2: the standard, and the leading `#` besides. Each row: filter, topic, whether it matches.
#[test]
fn filters_match_as_the_standard_says() {
    for (filter, topic, expected) in [
        ("+/+", "/a", true),
        ("+/#", "/a", true),
        ("a//b", "a/b", false),
        ("a/+", "a//b", false),
        ("a/+/b", "a//b", true),
        ("a/+", "a/", true),
        ("a", "a/", false),
        ("a/b", "a/b/", false),
        ("+/broker/time", "$SYS/broker/time", false),
        ("+/#", "$SYS/x", false),
        ("#/a", "x/y/a", true),
        ("#/a", "a", true),
        ("a/#", "a", true),
        ("#", "$SYS/x", false),
        ("$SYS/#", "$SYS/broker/time", true),
        ("/+", "/a", true),
        ("+", "/a", false),
    ] {
        let script = format!("on init do println 0\non topic remote \"{filter}\" do println \"m\"");
        let mut bench = Bench::new(&script);
        bench.console();
        bench.message(Side::Remote, topic, b"");
        assert_eq!(bench.console() == "m~", expected, "{filter} {topic}");
    }
}
