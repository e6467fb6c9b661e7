//! What a loan costs. In release: `RINGWIRE_POOL_LONG=1 cargo test --release --test pool cost -- --nocapture`.

use std::hint::black_box;
use std::time::Instant;

use super::rig::{Ends, figures};

#[test]
fn a_loan_that_nobody_else_wants() {
    let (blocks, per_block) = if super::is_long() { (200, 100_000_u32) } else { (5, 1_000) };
    let pool = Ends::default().pool(8, 8).build().unwrap();
    let mut blocks_ns: Vec<f64> = (0..blocks)
        .map(|_| {
            let began = Instant::now();
            for _ in 0..per_block {
                drop(black_box(pool.acquire().unwrap()));
            }
            began.elapsed().as_nanos() as f64 / f64::from(per_block)
        })
        .collect();
    blocks_ns.sort_by(f64::total_cmp);
    let at = |share: usize| blocks_ns[(blocks_ns.len() - 1) * share / 100];
    println!(
        "acquire + release, nobody else: median of {blocks} blocks {:.1} ns, best {:.1} ns, p90 {:.1} ns",
        at(50),
        at(0),
        at(90)
    );
    assert_eq!(pool.metrics().acquired, u64::from(blocks * per_block));
    assert_eq!(figures(&pool), (8, 8, 0, 0));
}
