#!/usr/bin/env bash
# fuzz/run.sh TARGET [SECONDS]: builds a target with the coverage that libFuzzer steers by, on stable Rust, and runs it.
set -euo pipefail
cd "$(dirname "$0")"
target=$1 seconds=${2:-120}
host=$(rustc -vV | sed -n 's/^host: //p')
# What cargo-fuzz passes, but for the sanitizers, which only nightly Rust has. With --target, build scripts are built without.
flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
cargo run --quiet --bin seeds
RUSTFLAGS="$flags" cargo build --release --target "$host" --target-dir target/coverage --bin "$target"
mkdir -p "artifacts/$target"
exec "target/coverage/$host/release/$target" "corpus/$target" -artifact_prefix="artifacts/$target/" \
    -max_total_time="$seconds" -max_len=8192 -rss_limit_mb=1024 -print_final_stats=1
