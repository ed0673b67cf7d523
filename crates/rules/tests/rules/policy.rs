//! The quirk policy, row by row: what `compat` keeps or mends, and what `midge` does instead. Rows about the console,
//! the upload and the broker are theirs to test.
use crate::support::{Bench, console};
use midge_rules::{Input, Limits, Oddities, Oddity, Reply, check};

fn midge(body: &str) -> String {
    console(&format!("% midge\n{body}"))
}

/// First error or warning of a script.
fn finding(script: &str) -> String {
    let report = check(script.as_bytes(), Oddities::default(), &Limits::default());
    report.diagnostics.first().map(ToString::to_string).unwrap_or_default()
}

fn fixed() -> Oddities {
    Oddities::FIXED
}

mod compat {
    use super::*;

    /// [quirk:grouping/compat]
    #[test]
    fn right_to_left_grouping_k() {
        assert_eq!(console("on init do println 10-3-2 println 2*3+4"), "9~14~");
        assert_eq!(console(r#"on init do setvar $t = "a/x" setvar $p = a println $t = $p | "/x""#), "1~");
    }

    /// [quirk:words/compat]
    #[test]
    fn lexer_rules_k() {
        assert_eq!(console(r"on init do println my\-net println \%"), "my-net~%~");
        assert_eq!(console("on init do println x%c\ny"), "xy~");
        assert_eq!(
            finding(r#"on init do println"x""#),
            "1:12: error: action command expected (an expression ended \
            before this word: quote topics with + or -, write negative numbers as \"-5\")"
        );
        assert_eq!(console(r#"on init do setvar $a="x"println $a"#), "x~");
    }

    /// The original makes a comma of a line end in a string and a bracket of a tab.
    /// [quirk:line-end-in-string/compat]
    #[test]
    fn line_ends_and_tabs_in_strings_f() {
        assert_eq!(
            finding("on init do println \"a\nb\""),
            "1:20: error: string is not closed on its line (close it with \" before the end of the line)"
        );
        assert_eq!(console("on init do println \"a\tb\""), "a\tb~");
    }

    /// [quirk:any-token/compat]
    #[test]
    fn any_token_is_a_value_k() {
        assert_eq!(console("on init do println done println endif"), "done~endif~");
        assert_eq!(console("on init do println $a setvar $a = 1"), "Error (unknown var name) at >>$a setvar $a = 1 ");
        assert_eq!(console("on timer 1 do println $this_topic"), "Error (undefined $this_topic) at >>$this_topic ");
    }

    /// [quirk:data-topic/compat]
    #[test]
    fn data_topics_o() {
        let script = "on serial do publish local $this_serial 1 println n";
        let mut bench = Bench::new(script);
        bench.input(Input::Serial(b"a/b"));
        assert_eq!(bench.said(), ["fault topic at 1:14: invalid topic string"]);
        assert_eq!(
            finding(script),
            "1:28: warning: binary topics are refused (make it text first: setvar $t = $this_data | \"\")"
        );
        let mut bench = Bench::with(script, fixed(), Limits::default());
        bench.input(Input::Serial(b"a/b"));
        assert_eq!(bench.said(), [r#"publish local a/b "1""#, r#"print "n\r\n""#]);
        // Made text, it is a topic in both.
        let mut bench = Bench::new("on serial do setvar $t = $this_serial | \"\" publish local $t 1");
        bench.input(Input::Serial(b"a/b"));
        assert_eq!(bench.said(), [r#"publish local a/b "1""#]);
    }

    /// The variable case can only be warned about after the whole script is known.
    #[test]
    fn data_topics_o_warns_of_variables() {
        let script = "on serial do setvar $a = $this_serial setvar $b = $a publish local $b 1";
        assert_eq!(
            finding(script),
            "1:68: warning: this may hold binary data, which is refused as a topic (make it text where it is set: \
             setvar $t = $this_data | \"\")"
        );
    }

    /// The original keeps the length of the left operand: three bytes here, and none below.
    /// [quirk:equality-length/compat]
    #[test]
    fn equality_length_f() {
        let mut bench = Bench::new(r#"on init do publish local t "abc"="abc" setvar $v = ""="" println $v"#);
        assert_eq!(bench.said(), [r#"publish local t "1""#, r#"print "1\r\n""#]);
    }

    /// [quirk:dangling-else/compat]
    #[test]
    fn dangling_else_o() {
        let script = "on init do if 1 then if 0 then println X endif else println Y endif println Z";
        assert_eq!(console(script), "Y~Z~");
        assert_eq!(
            finding(script),
            "1:48: warning: this else belongs to the if that was just closed \
             (write an empty else before the inner endif)"
        );
        assert_eq!(Bench::with(script, fixed(), Limits::default()).console(), "Z~");
        let advised = "on init do if 1 then if 0 then println X else endif else println Y endif println Z";
        assert_eq!((console(advised).as_str(), finding(advised).as_str()), ("Z~", ""));
    }

    /// The original ends its pass at such a word wherever it skips the clause.
    /// [quirk:bare-on/compat]
    #[test]
    fn bare_on_and_config_f() {
        let script = "on timer 1 do println on println config on init do println i";
        assert_eq!(console(script), "i~");
        let mut bench = Bench::new("on init do settimer 1 1 on timer 1 do println on|config");
        bench.after(1);
        assert_eq!(bench.console(), "onconfig~");
    }

    /// [quirk:missing-endif/compat]
    #[test]
    fn missing_endif_k() {
        let script = "on init do if 0 then println a on timer 1 do println b";
        assert_eq!(console(script), "");
        assert_eq!(finding(script), "1:12: warning: if without endif (close it with endif)");
        let script = "on init do if 1 then println a done println b";
        assert_eq!(console(script), "a~b~");
        assert_eq!(finding(script), "1:32: warning: done closes an if (write endif)");
        let script = "on init do println a endif";
        assert_eq!(console(script), "a~");
        assert_eq!(finding(script), "1:22: warning: closes nothing (leave it out)");
    }

    /// [quirk:http-post/compat]
    #[test]
    fn http_post_o() {
        let script = r#"on init do http_post "http://h/" "x" "y" println z"#;
        assert_eq!(Bench::new(script).said(), [r#"http POST http://h/ "y""#, r#"print "z\r\n""#]);
        assert_eq!(
            finding(script),
            "1:34: warning: http_post skips this word unread (write a comma between URL and data)"
        );
        let documented = r#"on init do http_post "http://h/" "x" println z"#;
        let mut bench =
            Bench::with(documented, Oddities { http_post: Oddity::Fixed, ..Oddities::default() }, Limits::default());
        assert_eq!(bench.said(), [r#"http POST http://h/ "x""#, r#"print "z\r\n""#]);
        let comma = r#"on init do http_post "http://h/", "x""#;
        for oddities in [Oddities::default(), fixed()] {
            assert_eq!(Bench::with(comma, oddities, Limits::default()).said(), [r#"http POST http://h/ "x""#]);
        }
    }

    /// [quirk:retained-last/compat]
    #[test]
    fn retained_topic_takes_the_last_k() {
        let mut bench = Bench::new("on timer 1 do println retained_topic(\"a/+\") on init do settimer 1 1");
        for (topic, payload) in [("a/2", "two"), ("a/1", "one"), ("b/9", "nine")] {
            bench.things.retained.insert(topic.into(), payload.into());
        }
        bench.after(1);
        assert_eq!(bench.console(), "two~");
    }

    /// [quirk:event-per-subscription/compat] [quirk:same-filter-twice]
    #[test]
    fn one_event_per_subscription_k_duplicates_f() {
        let mut bench = Bench::new(
            "on init do subscribe local \"#\" subscribe local a subscribe local a on topic local a do println x",
        );
        assert_eq!(bench.said(), ["subscribe local #", "subscribe local a"]);
        bench.local("a", b"");
        assert_eq!(bench.console(), "x~x~");
        let mut bench = Bench::new(
            "on init do subscribe local \"#\" subscribe local a unsubscribe local a on topic local a do println x",
        );
        bench.said();
        bench.local("a", b"");
        assert_eq!(bench.console(), "x~");
    }

    /// [quirk:own-messages/compat]
    #[test]
    fn local_messages_wait_for_the_current_event_k() {
        let script = "on init do subscribe local \"+\" publish local a 1 publish local b 2 println i\n\
                      on topic local \"+\" do println $this_topic";
        assert_eq!(console(script), "i~a~b~");
        // With a limit where the original never comes back.
        let mut bench =
            Bench::new("on init do subscribe local a publish local a 1 on topic local a do publish local a 1");
        let said = bench.said();
        assert_eq!(said.len(), 67, "64 in a row");
        assert_eq!(said[66], "fault chain at 1:68: own messages follow from one another without end");
        bench.local("a", b"");
        assert!(bench.said().len() > 60, "and it goes on");
    }

    /// [quirk:midnight/compat]
    #[test]
    fn midnight_alarm_f() {
        let mut bench = Bench::new("on init do setalarm 1 00:00:00 on alarm 1 do println m");
        bench.clock(0, "23:59:59");
        bench.clock(1, "00:00:00");
        assert_eq!(bench.console(), "m~");
    }

    /// [quirk:json/compat]
    #[test]
    fn json_gaps_f() {
        assert_eq!(console(r#"on init do println json_parse("a.1.b", "{\"a\":[{\"b\":1},{\"b\":-3}]}")"#), "-3~");
        assert_eq!(console(r#"on init do println json_parse("n", "{\"n\":{\"f\":\"in\"}}")"#), "in~");
    }

    /// [quirk:lengths/compat]
    #[test]
    fn lengths_and_cuts_f() {
        let mut bench =
            Bench::new("on init do http_get \"http://h/\" on http_response do publish local t $this_http_body | \"!\"");
        bench.reply(Reply::Answered { code: 200, body: b"body" });
        assert_eq!(bench.said(), [r#"publish local t "body!""#]);
        let long = "x".repeat(300);
        assert_eq!(console(&format!("on init do println {long} | {long}")), format!("{long}{long}~"));
        assert_eq!(console(&format!("on init do println substr({long},0,300)")), format!("{long}~"));
        assert_eq!(console("on init do if 0 then setvar $x = 1 endif println \"[\"|$x|\"]\""), "[]~");
    }

    /// [quirk:quoted-config/compat]
    #[test]
    fn quoted_config_f() {
        let mut bench = Bench::new("config ssid \"my net\" config ap_ssid bare config mqtt_host @1");
        assert_eq!(
            bench.said(),
            [r#"config ssid "my net""#, r#"config ap_ssid "bare""#, r#"config mqtt_host "_undefined_""#]
        );
    }

    /// [quirk:leading-hash/compat]
    #[test]
    fn leading_hash_in_filters_k() {
        let mut bench = Bench::new("on init do subscribe local \"#/a\" on topic local \"#/a\" do println $this_topic");
        assert_eq!(bench.said(), ["subscribe local #"]);
        bench.local("x/y/a", b"");
        bench.local("x/b", b"");
        assert_eq!(bench.console(), "x/y/a~");
    }
}

mod in_midge {
    use super::*;

    /// [quirk:grouping/midge]
    #[test]
    fn right_to_left_grouping_k() {
        assert_eq!(midge("on init do println 10-3-2 println 2*3+4 println 2+3*4"), "5~10~14~");
        assert_eq!(
            midge(r#"on init do println "a" | 1 + 2 println -3 + 5 println 7 mod 4 println 1 / 8"#),
            "a3~2~3~0.125~"
        );
        assert_eq!(midge("on init do println not 1 = 2 and 2 > 1 println 0 or 5"), "1~1~");
        assert_eq!(
            finding("% midge\non init do println 1 < 2 < 3"),
            "2:26: error: comparisons do not chain (use brackets, or: A and B)"
        );
    }

    /// [quirk:words/midge]
    #[test]
    fn lexer_rules_k() {
        assert_eq!(midge("on init do println \"x\"%c\nprintln\"y\""), "x~y~");
        assert_eq!(midge(r#"on init do println "a\n\x41\u{e9}\"""#), "a\nAé\"~");
        assert_eq!(finding("% midge\non init do println \"a\" & \"b\""), "2:24: error: unknown character (write: and)");
    }

    /// [quirk:line-end-in-string/midge]
    #[test]
    fn line_ends_and_tabs_in_strings_f() {
        assert_eq!(
            finding("% midge\non init do println \"a\nb\""),
            "2:20: error: string is not closed on its line (close it with \"; write \\n for a line end inside)"
        );
        assert_eq!(midge("on init do println \"a\tb\""), "a\tb~");
    }

    /// [quirk:any-token/midge]
    #[test]
    fn any_token_is_a_value_k() {
        assert_eq!(
            finding("% midge\non init do println hello"),
            "2:20: error: a value expected, found 'hello' (a text is written \"hello\")"
        );
        assert_eq!(
            finding("% midge\non init do println $a"),
            "2:20: error: $a is never set (write somewhere: setvar $a = VALUE)"
        );
        assert_eq!(midge("on init do println \"[\" | $a | \"]\" setvar $a = 1"), "[]~");
        assert_eq!(
            finding("% midge\non timer 1 do println $this_topic"),
            "2:23: error: $this_topic has no value here (it exists in the clauses of its own event)"
        );
    }

    /// [quirk:data-topic/midge]
    #[test]
    fn data_topics_o() {
        let mut bench = Bench::new("% midge\non serial do publish local $this_serial | \"/x\", 1");
        bench.input(Input::Serial(b"a"));
        assert_eq!(bench.said(), [r#"publish local a/x "1""#]);
        let mut bench = Bench::new("% midge\noption text_topics\non serial do publish local $this_serial, 1");
        bench.input(Input::Serial(b"a"));
        assert_eq!(bench.said(), ["fault topic at 3:14: invalid topic string"]);
    }

    /// [quirk:equality-length/midge]
    #[test]
    fn equality_length_f() {
        assert_eq!(midge(r#"on init do println len("abc" = "abc")"#), "1~");
    }

    /// [quirk:dangling-else/midge]
    #[test]
    fn dangling_else_o() {
        assert_eq!(midge("on init do if 1 then if 0 then println 1 endif else println 2 endif println 3"), "3~");
        assert_eq!(midge("on init do if 0 then if 0 then println 1 endif else println 2 endif println 3"), "2~3~");
    }

    /// [quirk:bare-on/midge]
    #[test]
    fn bare_on_and_config_f() {
        assert_eq!(
            finding("% midge\non init do if 1 then println on endif"),
            "2:30: error: a value expected, found 'on' (a value is missing before it)"
        );
    }

    /// [quirk:missing-endif/midge]
    #[test]
    fn missing_endif_k() {
        for (script, expected) in [
            ("if 0 then println 1", "2:31: error: an action expected, found the end of the script (write endif first)"),
            (
                "if 1 then println 1 done",
                "2:32: error: an action expected, found 'done' (nothing is open that done could end)",
            ),
            (
                "println 1 endif",
                "2:22: error: an action expected, found 'endif' (nothing is open that endif could end)",
            ),
        ] {
            assert_eq!(finding(&format!("% midge\non init do {script}")), expected);
        }
    }

    /// [quirk:http-post/midge]
    #[test]
    fn http_post_o() {
        let mut bench = Bench::new(
            "% midge\non init do http_post \"http://h/\", \"x\" header \"X-Key\", 7\n\
             http_put \"https://h/y\", 1 http_delete \"http://h/\"",
        );
        assert_eq!(
            bench.said(),
            [r#"http POST http://h/ [X-Key: 7] "x""#, r#"http PUT https://h/y "1""#, "http DELETE http://h/"]
        );
        assert_eq!(
            finding("% midge\non init do http_post \"http://h/\" \"x\""),
            "2:34: error: ',' expected, found a string (write: http_post URL, DATA)"
        );
    }

    /// [quirk:retained-last/midge]
    #[test]
    fn retained_topic_takes_the_last_k() {
        let mut bench = Bench::new("% midge\non timer 1 do println retained_topic(\"a/+\") on init do settimer 1, 1");
        for (topic, payload) in [("a/2", "two"), ("a/1", "one")] {
            bench.things.retained.insert(topic.into(), payload.into());
        }
        bench.after(1);
        assert_eq!(bench.console(), "two~");
    }

    /// [quirk:event-per-subscription/midge]
    #[test]
    fn one_event_per_subscription_k() {
        let script = |option: &str| {
            format!(
                "% midge\n{option}\non init do subscribe local \"#\" subscribe local \"a\"\n\
                 on topic local \"a\" do println 1"
            )
        };
        for (option, expected) in [("", "1~"), ("option each_subscription", "1~1~")] {
            let mut bench = Bench::new(&script(option));
            bench.said();
            bench.local("a", b"");
            assert_eq!(bench.console(), expected);
        }
    }

    /// [quirk:own-messages/midge]
    #[test]
    fn local_messages_wait_for_the_current_event_k() {
        let script = "on init do subscribe local \"+\" publish local \"a\", 1 publish local \"b\", 2 println \"i\"\n\
                      on topic local \"+\" do println $1";
        assert_eq!(midge(script), "i~a~b~");
    }

    /// [quirk:midnight/midge]
    #[test]
    fn midnight_alarm_f() {
        let mut bench = Bench::new("% midge\non init do setalarm 1, \"0:00\" on alarm 1 do println 1");
        bench.clock(0, "23:59:59");
        bench.clock(1, "00:00:00");
        assert_eq!(bench.console(), "1~");
        let mut bench = Bench::new("% midge\non init do setalarm 1, \"7 o'clock\" println 1");
        assert_eq!(bench.said(), ["fault time at 2:12: not a time of day: \"7 o'clock\""]);
    }

    /// [quirk:json/midge]
    #[test]
    fn json_gaps_f() {
        assert_eq!(midge(r#"on init do println json_parse("a.1.b", "{\"a\":[{\"b\":1},{\"b\":null}]}")"#), "null~");
        assert_eq!(midge(r#"on init do println json_parse("x", "{\"x\":\"a\\nb\"}")"#), "a\nb~");
    }

    /// [quirk:lengths/midge]
    #[test]
    fn lengths_and_cuts_f() {
        assert_eq!(midge(r#"on init do println substr("grün", 2, 1) | len("grün")"#), "ü4~");
        assert_eq!(midge(r#"on init do println len(pad("", 300, "x"))"#), "300~");
    }

    /// [quirk:quoted-config/midge]
    #[test]
    fn quoted_config_f() {
        let mut bench = Bench::new("% midge\nconfig ssid \"my net\"\nconfig broker_port 1884");
        assert_eq!(bench.said(), [r#"config ssid "my net""#, r#"config broker_port "1884""#]);
    }

    /// [quirk:leading-hash/midge]
    #[test]
    fn leading_hash_in_filters_k() {
        let mut bench = Bench::new("% midge\non topic remote \"#/state/+\" do println $1 | \" \" | $2");
        bench.message(midge_rules::Side::Remote, "x/y/state/on", b"");
        assert_eq!(bench.console(), "x/y on~");
    }
}
