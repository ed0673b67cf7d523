//! `midge-sim`: runs worlds from seeds. Prints the seed first; a failure prints the command that replays it.
use midge_sim::Story;
use std::process::ExitCode;

struct Args {
    first: u64,
    count: u64,
    trace: bool,
}

fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(words) => {
            eprintln!("{words}\nusage: midge-sim [--seed N | --seeds COUNT [--start N]] [--trace]");
            return ExitCode::from(2);
        }
    };
    let began = std::time::Instant::now();
    let (mut failed, mut messages, mut faults) = (0, 0, 0);
    for seed in args.first..args.first + args.count {
        if args.count == 1 {
            println!("seed {seed}");
        }
        let outcome = Story { trace: args.trace, ..Story::new(seed) }.run();
        outcome.trace.iter().for_each(|line| println!("{line}"));
        messages += outcome.messages;
        faults += outcome.faults;
        if !outcome.verdicts.is_empty() {
            failed += 1;
            println!("seed {seed} FAILED; replay: cargo xtask sim --seed {seed}");
            outcome.verdicts.iter().take(5).for_each(|verdict| println!("  {verdict:?}"));
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{} worlds in {seconds:.1} s: {messages} messages, {faults} faults", args.count);
    println!("{} passed, {failed} failed", args.count - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args { first: 0, count: 200, trace: false };
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().ok_or(format!("{word} needs a number"))?;
            text.parse().map_err(|_| format!("{word}: '{text}' is no number"))
        };
        match word.as_str() {
            "--seed" => (args.first, args.count) = (number()?, 1),
            "--seeds" => args.count = number()?,
            "--start" => args.first = number()?,
            "--trace" => args.trace = true,
            _ => return Err(format!("unknown argument: {word}")),
        }
    }
    Ok(args)
}
