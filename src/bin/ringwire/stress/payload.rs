//! Payloads that belong to one request alone, and what a server makes of them.

/// Writes what request `number` of client `client` says.
pub fn fill(payload: &mut [u8], client: u64, number: u64) {
    let mut word = first_word(client, number);
    for chunk in payload.chunks_mut(8) {
        chunk.copy_from_slice(&word.to_ne_bytes()[..chunk.len()]);
        word = word.wrapping_add(0x0101_0101_0101_0101);
    }
}

/// Whether `answer` is the mirror image of what [`fill`] wrote for that request, `bytes` long.
pub fn is_mirrored(answer: &[u8], client: u64, number: u64, bytes: usize) -> bool {
    let mut word = first_word(client, number);
    answer.len() == bytes
        && answer.chunks(8).all(|chunk| {
            let right = *chunk == (!word).to_ne_bytes()[..chunk.len()];
            word = word.wrapping_add(0x0101_0101_0101_0101);
            right
        })
}

/// In a server: the answer that proves that somebody has read the request.
pub fn mirror(payload: &mut [u8]) {
    payload.iter_mut().for_each(|byte| *byte = !*byte);
}

fn first_word(client: u64, number: u64) -> u64 {
    client.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number.wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

/// What [`SUM`](super::server::SUM) answers: a sum over all bytes that no two of them can be exchanged in.
pub fn sum(sum: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_image_is_right_for_its_own_request_alone() {
        for bytes in [1, 8, 13, 1000] {
            let mut payload = vec![0; bytes];
            fill(&mut payload, 3, 70);
            assert!(!is_mirrored(&payload, 3, 70, bytes));
            mirror(&mut payload);
            assert!(is_mirrored(&payload, 3, 70, bytes));
            assert!(!is_mirrored(&payload, 3, 70, bytes + 1));
            if bytes >= 8 {
                assert!(!is_mirrored(&payload, 4, 70, bytes) && !is_mirrored(&payload, 3, 71, bytes));
            }
        }
        assert_ne!(sum(0, &[1, 2]), sum(0, &[2, 1]));
        assert_eq!(sum(sum(0, &[1]), &[2]), sum(0, &[1, 2]));
    }
}
