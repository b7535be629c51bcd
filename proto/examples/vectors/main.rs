//! Writes random vectors, good and bad ones of every message, one in a line, with what this crate
//! says to each: `cargo run --example vectors -- COUNT SEED`. `tests/interop/run` judges them with
//! other implementations.

#[path = "../../tests/cases/mod.rs"]
#[allow(dead_code, reason = "the frozen vectors use the rest")]
mod cases;
#[path = "../../tests/common/mod.rs"]
mod common;
mod damage;
#[path = "../../tests/properties/generate.rs"]
#[allow(dead_code, reason = "the properties use the rest")]
mod generate;
mod make;
mod random;

use std::io::Write as _;

use make::Maker;

fn main() -> std::io::Result<()> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let mut number = |otherwise| numbers.next().and_then(Result::ok).unwrap_or(otherwise);
    let (count, seed) = (number(20_000), number(1));
    let mut maker = Maker::new(seed);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for _ in 0..count {
        serde_json::to_writer(&mut out, &maker.vector())?;
        out.write_all(b"\n")?;
    }
    out.flush()
}
