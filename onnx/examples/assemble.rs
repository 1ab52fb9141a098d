//! How long it takes to make artifacts of a prepared super-network: `assemble FOLDER`, where `host prepare` put it.

#![expect(clippy::print_stdout, reason = "this is what the program is for")]

use edgewise_onnx::{ArtifactWriter, ChunkedWeights, Error, Extras, MappedWeights, ModelConfig, Source, SuperNetworkIndex};
use std::{error::Error as StdError, fs, path::Path, time::Instant};

/// Best of this many.
const TIMES: usize = 5;

fn main() -> Result<(), Box<dyn StdError>> {
    let folder = std::env::args().nth(1).ok_or("a folder is needed")?;
    let folder = Path::new(&folder);
    let mut file: serde_json::Value = serde_json::from_slice(&fs::read(folder.join("supernet.json"))?)?;
    let config: ModelConfig = serde_json::from_value(file["model"].take())?;
    let source: Source = serde_json::from_value(file["source"].take())?;
    let extras = Extras { tokenizer: fs::read(folder.join("tokenizer.json")).ok(), model_type: "llama".into() };
    let weights = MappedWeights::open(folder)?;

    let (index, chunks) = timed("index", || SuperNetworkIndex::of(&config, &weights, &source, &extras))?;
    println!("{} chunks, {} bytes; index of {} bytes", chunks.len(), index.bytes(), index.to_bytes().len());
    let device = tempfile::tempdir()?;
    let locate = |hash: &edgewise_onnx::ContentHash| device.path().join(hash.to_string());
    for source in &chunks {
        fs::write(locate(&source.chunk.sha256), source.pieces.concat())?;
    }
    let chunked = timed("open chunks", || ChunkedWeights::open(&index, locate))?;

    let host = ArtifactWriter::new(&config, &weights, source.clone(), extras.clone());
    let agent = ArtifactWriter::on_device(&index, &chunked);
    let sub = config.full();
    // Every digest but the first knows the tensors that depend on the width alone.
    let first = Instant::now();
    let digest = host.digest(&sub)?;
    println!("{:<28}{:>8.3} s", "first digest", first.elapsed().as_secs_f64());
    timed("digest", || host.digest(&sub))?;
    let made = timed("assemble from safetensors", || host.assemble(&sub))?;
    println!("{} bytes of weights", made.data.len() + made.shared.len());
    drop(made);
    timed("assemble from chunks", || agent.assemble_checked(&sub, &digest.sha256))?;
    timed("write from chunks", || agent.write_checked(&sub, &device.path().join("artifact"), &digest.sha256))?;
    Ok(())
}

fn timed<T>(what: &str, make: impl Fn() -> Result<T, Error>) -> Result<T, Error> {
    let mut seconds = Vec::new();
    loop {
        let begun = Instant::now();
        let made = make()?;
        seconds.push(begun.elapsed().as_secs_f64());
        if seconds.len() == TIMES {
            let best = seconds.iter().copied().fold(f64::INFINITY, f64::min);
            println!("{what:<28}{best:>8.3} s, first {:.3} s", seconds[0]);
            return Ok(made);
        }
    }
}
