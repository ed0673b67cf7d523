//! How much memory a script takes. A program of its own, because it has an allocator of its own.
use allocation_counter::measure;
use midge_rules::{Engine, Input, Limits, Nowhere, Oddities};
use mqtt::Now;

const BUDGET: u64 = 64 * 1024;

/// About 4 KB of what scripts are made of.
fn script(dialect: &str) -> String {
    let clause = match dialect {
        "midge" => {
            "on topic local \"home/ROOM/temperature\" do\n  setvar $tROOM = $this_data\n  if $tROOM < 20.5 and $on = 0 then\n    \
             publish local \"home/ROOM/heater\", \"on\" retained\n  else\n    println \"ROOM: \" | $tROOM\n  endif\n"
        }
        _ => {
            "on topic local home/ROOM/temperature do\n  setvar $tROOM = $this_data\n  if 20 > $tROOM then\n    \
             publish local home/ROOM/heater \"on\" retained\n  else\n    println \"ROOM: \" | $tROOM\n  endif\n"
        }
    };
    let first = if dialect == "midge" {
        "% midge\non init do setvar $on = 0 subscribe local \"home/#\"\n"
    } else {
        "on init do subscribe local \"home/#\"\n"
    };
    let mut text = String::from(first);
    for room in 0.. {
        let next = clause.replace("ROOM", &room.to_string());
        if text.len() + next.len() > 4091 {
            break;
        }
        text.push_str(&next);
    }
    text
}

#[test]
fn an_engine_with_a_script_of_4_kb_needs_less_than_64_kb() {
    for dialect in ["compat", "midge"] {
        let script = script(dialect);
        assert!(script.len() > 3900, "{}", script.len());
        let mut loaded = None;
        let loading = measure(|| {
            loaded = Engine::load(script.as_bytes(), Oddities::default(), Limits::default()).ok();
        });
        let mut engine = loaded.expect("a good script");
        let starting = measure(|| {
            engine.handle(Now::default(), Input::Start, &Nowhere);
            while engine.poll_output().is_some() {}
        });
        let resident = u64::try_from(loading.bytes_current).expect("an engine is not nothing");
        let most = loading.bytes_max.max(resident + starting.bytes_max);
        println!("{dialect}: {} bytes of text, {resident} bytes loaded, {most} at most", script.len());
        assert!(most < BUDGET, "{dialect}: {most} bytes");
    }
}
