//! Any bytes as what either side says in the handshake.
//!
//! Byte 0 chooses what the rest begins with (nothing, or a good prefix that a fuzzer would need long to find).

use ringwire::wire::{
    Answer, HELLO_MIN_BYTES, HandshakeError, Hello, MAGIC, MAX_HANDSHAKE_BYTES, REASON_BYTES, Status,
    VERSION, VERSION_OLDEST,
};
use zerocopy::IntoBytes;

pub fn run(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let mut bytes = Vec::new();
    if choice & 1 != 0 {
        bytes.extend(MAGIC);
    }
    if choice & 2 != 0 {
        bytes.extend((rest.len() as u32 + 12).to_ne_bytes());
    }
    bytes.extend(rest);
    check_pieces(&bytes, Hello::parse, |hello| hello.as_bytes().to_vec());
    check_pieces(&bytes, Answer::parse, |answer| answer.as_bytes().to_vec());
    if let Ok(Some(hello)) = Hello::parse(&bytes) {
        check_hello(&bytes, hello);
    }
    if let Ok(Some(answer)) = Answer::parse(&bytes) {
        check_answer(&bytes, &answer);
    }
}

/// However the bytes are cut, the verdict is the same one, and comes as soon as it can: a reader that has taken in one
/// piece more never changes its mind. What lies behind the message is left alone.
fn check_pieces<T>(
    bytes: &[u8],
    parse: impl Fn(&[u8]) -> Result<Option<T>, HandshakeError>,
    known: impl Fn(&T) -> Vec<u8>,
) {
    let whole = parse(bytes);
    let mut decided = false;
    for end in 0..=bytes.len().min(MAX_HANDSHAKE_BYTES) {
        match (parse(&bytes[..end]), &whole) {
            (Ok(None), _) => assert!(!decided, "undecided again after {end} bytes"),
            (Ok(Some(part)), Ok(Some(whole))) => {
                assert_eq!(known(&part), known(whole));
                decided = true;
            }
            // What was found wrong may be shown more fully, but stays wrong.
            (Err(_), Err(_)) => decided = true,
            _ => panic!("another verdict after {end} of {} bytes", bytes.len()),
        }
    }
    if bytes.len() >= MAX_HANDSHAKE_BYTES {
        assert!(!matches!(whole, Ok(None)), "undecided after all that a message can be");
    }
}

fn check_hello(bytes: &[u8], hello: Hello) {
    assert_eq!(hello.magic, MAGIC);
    let size = hello.struct_bytes as usize;
    assert!((HELLO_MIN_BYTES..=MAX_HANDSHAKE_BYTES).contains(&size) && size <= bytes.len());
    assert!(hello.version_oldest <= hello.version && hello.version > 0);
    if let Some(version) = hello.common_version() {
        assert!((VERSION_OLDEST..=VERSION).contains(&version));
        assert!((hello.version_oldest..=hello.version).contains(&version));
    }
    let again = Hello { struct_bytes: HELLO_MIN_BYTES as u32, ..hello };
    assert_eq!(Hello::parse(again.as_bytes()), Ok(Some(again)));
}

fn check_answer(bytes: &[u8], answer: &Answer) {
    assert_eq!(answer.magic, MAGIC);
    assert!(answer.struct_bytes as usize <= bytes.len());
    let reason = answer.reason();
    assert!(!reason.contains(char::is_control), "{reason:?}");
    assert!(reason.chars().count() <= REASON_BYTES);
    // A reason that is passed on is cut to the same text.
    let passed_on = Answer::refusal(answer.status(), &reason);
    assert!(reason.starts_with(&passed_on.reason()));
    assert_eq!(Status::from_code(answer.status), answer.status());
}
