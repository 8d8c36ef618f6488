//! Requests that are garbled, cut short, or lie about their sizes: no panic, and no memory beyond what a body is worth.

mod requests;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use proptest::prelude::*;
use serde_json::json;
use tidegate_api::decode_tensors;

use self::requests::{binary, grpc, oip, well_formed};

/// A byte string of no bytes is two bytes of a message and 32 in memory, with room for as many again while a list grows.
const BYTES_PER_BYTE: usize = 128;

/// Of a request that is nearly empty: tables, messages, errors.
const BYTES_FOR_NOTHING: usize = 64 << 10;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// Counts what each thread holds.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[expect(unsafe_code, reason = "an allocator is; it hands on what it is asked for")]
// SAFETY: the system's allocator does the work; the counters are plain numbers of the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps the promises of the trait.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller keeps the promises of the trait.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn count(n_bytes: isize) {
    // While a thread ends, its counters are gone.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + n_bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

/// How many tensors came of it; the memory that it took is checked.
#[track_caller]
fn decode(bytes: &[u8]) -> usize {
    let before = HELD.get();
    MOST.set(before);
    let n_tensors = decode_tensors(bytes);
    let taken = (MOST.get() - before).unsigned_abs();
    let allowed = BYTES_FOR_NOTHING + BYTES_PER_BYTE * bytes.len();
    assert!(taken <= allowed, "{taken} bytes of memory for a request of {}", bytes.len());
    n_tensors
}

#[test]
fn well_formed_requests_are_read() {
    for request in well_formed() {
        assert_eq!(decode(&request), 1, "{}", String::from_utf8_lossy(&request));
    }
}

#[test]
fn sizes_that_lie_take_no_memory() {
    let huge =
        [json!([1u64 << 40]), json!([u64::MAX]), json!([u64::MAX, u64::MAX]), json!([1 << 31, 1 << 31, 2])];
    for shape in &huge {
        for datatype in ["FP64", "BYTES", "BOOL"] {
            assert_eq!(decode(&binary(datatype, shape, &[255; 16])), 0, "{datatype} {shape}");
            let in_json =
                json!({"inputs": [{"name": "x", "datatype": datatype, "shape": shape, "data": [1]}]});
            assert_eq!(decode(&oip(&in_json, &[])), 0);
            assert_eq!(decode(&[&[2][..], in_json.to_string().as_bytes()].concat()), 0);
        }
    }
    let most = [255, 255, 255, 255, 255, 255, 255, 255, 127];
    for datatype in ["FP64", "BYTES", "BOOL", "INT32"] {
        for shape in [&most[..], &[&most[..], &most].concat()] {
            assert_eq!(decode(&grpc(datatype, shape, &[], Some(&[0; 16]))), 0);
            assert_eq!(decode(&grpc(datatype, shape, &[0x12, 1, 1], None)), 0);
        }
    }
    let said = json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [4], "parameters": {"binary_data_size": 1u64 << 60}}]});
    assert_eq!(decode(&oip(&said, &[0; 16])), 0);
    assert_eq!(decode(&binary("BYTES", &json!([1]), &[255, 255, 255, 255, 0])), 0);
    for depth in [100, 10_000] {
        let nested = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let input = format!(r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1],"data":{nested}}}]}}"#);
        assert_eq!(decode(&[&[2][..], input.as_bytes()].concat()), 0);
        assert_eq!(decode(&[&[3, 11][..], format!(r#"{{"x":{nested}}}"#).as_bytes()].concat()), 0);
    }
}

/// What goes wrong on the way, or is made to.
#[derive(Clone, Debug)]
enum Damage {
    Byte(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Repeat(prop::sample::Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<prop::sample::Index>;
    let telling = prop::sample::select(vec![
        &[255u8; 9][..],
        b"[",
        b"]",
        b"-1",
        b"9e99",
        b"\"",
        b"{",
        &[0; 4],
        b",",
        &[127],
    ]);
    prop_oneof![
        4 => (place(), any::<u8>()).prop_map(|(place, byte)| Damage::Byte(place, byte)),
        1 => place().prop_map(Damage::Cut),
        2 => (place(), telling).prop_map(|(place, bytes)| Damage::Insert(place, bytes.to_vec())),
        1 => (place(), 1usize..40).prop_map(|(place, n)| Damage::Repeat(place, n)),
    ]
}

fn damaged(mut bytes: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        if bytes.len() < 2 {
            break;
        }
        // The first byte, which chooses the decoder, is left alone.
        let n_places = bytes.len() - 1;
        let place = |place: &prop::sample::Index| 1 + place.index(n_places);
        match damage {
            Damage::Byte(at, byte) => {
                let at = place(at);
                bytes[at] = *byte;
            }
            Damage::Cut(at) => bytes.truncate(place(at)),
            Damage::Insert(at, more) => {
                let at = place(at);
                bytes.splice(at..at, more.iter().copied());
            }
            Damage::Repeat(at, n) => {
                let at = place(at);
                let piece = bytes[at..].to_vec().repeat(*n);
                bytes.truncate(at);
                bytes.extend(piece.into_iter().take(64 << 10));
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        decode(&bytes);
    }

    #[test]
    fn damaged_requests_are_read_or_refused(
        which in any::<prop::sample::Index>(),
        damages in prop::collection::vec(damage(), 1..8),
    ) {
        let requests = well_formed();
        decode(&damaged(which.get(&requests).clone(), &damages));
    }
}
