//! Writes the report of a made-up study to the file that is named, to be looked at.

#[path = "../tests/sample/mod.rs"]
mod sample;

fn main() -> std::io::Result<()> {
    let path = std::env::args_os().nth(1).ok_or_else(|| std::io::Error::other("usage: sample FILE.html"))?;
    std::fs::write(path, edgewise_report::render(&sample::sample()))
}
