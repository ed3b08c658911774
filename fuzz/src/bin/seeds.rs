//! Writes sound blocks, head records and columns into `corpus/TARGET/`, for the targets to begin with.

use std::error::Error;
use std::path::Path;
use vwatch_store::fuzzing;

fn main() -> Result<(), Box<dyn Error>> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let targets = [
        ("block", fuzzing::block_seeds()?),
        ("head", fuzzing::head_seeds()?),
        ("columns", fuzzing::columns_seeds()?),
    ];
    for (target, seeds) in targets {
        let directory = corpus.join(target);
        std::fs::create_dir_all(&directory)?;
        for (i, seed) in seeds.iter().enumerate() {
            std::fs::write(directory.join(format!("seed-{i}")), seed)?;
        }
        println!("{}: {} seeds", directory.display(), seeds.len());
    }
    Ok(())
}
