//! Archives that someone wrote to do harm, or that a disk damaged: always an error, never a panic, never much memory.

use std::io::{Cursor, Read, Write};

use tidegate_torchscript::{ConvertError, Converted, Options, convert};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::support::{Array, compare, fixture, run};

fn convert_bytes(bytes: Vec<u8>) -> Result<Converted, ConvertError> {
    convert(
        Cursor::new(bytes),
        &Options { input_shapes: Some(vec![vec![1, 3, 16, 16]]), ..Options::default() },
    )
}

/// The files of an archive, by name without the folder.
fn unpacked(name: &str) -> Vec<(String, Vec<u8>)> {
    let mut archive = ZipArchive::new(Cursor::new(fixture(name))).unwrap();
    (0..archive.len())
        .map(|index| {
            let mut file = archive.by_index(index).unwrap();
            let name = file.name().unwrap().split_once('/').unwrap().1.to_owned();
            let mut bytes = vec![];
            file.read_to_end(&mut bytes).unwrap();
            (name, bytes)
        })
        .collect()
}

fn packed(files: &[(String, Vec<u8>)], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(vec![]));
    for (name, bytes) in files {
        let options = SimpleFileOptions::default().compression_method(method);
        writer.start_file(format!("model/{name}"), options).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// An archive with one program and one pickle.
fn archive_of(code: &str, pickle: &[u8]) -> Vec<u8> {
    let file = |name: &str, bytes: &[u8]| (name.to_owned(), bytes.to_vec());
    let files = [
        file("data.pkl", pickle),
        file("constants.pkl", b"\x80\x02)."),
        file("code/__torch__.py", code.as_bytes()),
        file("data/0", &[0; 4]),
    ];
    packed(&files, CompressionMethod::Stored)
}

/// A module of class `M` without attributes.
const EMPTY_MODULE: &[u8] = b"\x80\x02c__torch__\nM\n)\x81}b.";

fn run_forward(body: &str) -> Result<Converted, ConvertError> {
    let code =
        format!("class M(Module):\n  def forward(self: __torch__.M,\n    x: Tensor) -> Tensor:\n{body}\n");
    convert_bytes(archive_of(&code, EMPTY_MODULE))
}

#[test]
fn programs_that_never_end_or_grow_without_bound_are_stopped() {
    let deep = format!("    return {}x{}", "(".repeat(50_000), ")".repeat(50_000));
    let chain = format!("    return x{}", ".a".repeat(50_000));
    let sum = format!("    return {}x", "x + ".repeat(50_000));
    let signs = format!("    return {}1", "- ".repeat(50_000));
    let blocks: String = (0..5_000).map(|depth| format!("{}if True:\n", " ".repeat(4 + depth))).collect();
    let cases = [
        ("endless loop", "    while True:\n      pass\n    return x"),
        ("endless recursion", "    return (self).forward(x, )"),
        ("doubling list", "    l = [x]\n    while True:\n      l = torch.add(l, l)\n    return x"),
        ("multiplied list", "    l = torch.mul([1], 9223372036854775807)\n    return x"),
        ("doubling text", "    t = \"aa\"\n    while True:\n      t = torch.add(t, t)\n    return x"),
        ("long range", "    for i in range(9223372036854775807):\n      pass\n    return x"),
        ("nested lists", "    l = [x]\n    while True:\n      l = [l]\n    return x"),
        ("overflow", "    n = torch.mul(9223372036854775807, 2)\n    return x"),
        ("huge tensor", "    return torch.eye(1000000)"),
        ("huge padding", "    return torch.pad(x, [9223372036854775807, 9223372036854775807])"),
        ("huge kernel", "    return torch.max_pool2d(x, [9223372036854775807, 1], [1, 1], [0, 0], [2, 2])"),
        ("division by zero", "    return torch.view(x, [torch.floor_divide(1, 0)])"),
        ("split into nothing", "    return torch.split(x, 0)"),
        ("axis far away", "    return torch.softmax(x, 9223372036854775807)"),
        ("no such axis", "    return torch.transpose(x, -9, 1)"),
        ("no arguments", "    return torch.add()"),
        ("list that holds itself", "    l = [x]\n    _0 = torch.append(l, l)\n    return l"),
        ("nodes without end", "    y = x\n    while True:\n      y = torch.relu(y)\n    return y"),
        ("growing rank", "    y = x\n    while True:\n      y = torch.unsqueeze(y, 0)\n    return y"),
        (
            "many long lists",
            "    l = []\n    while True:\n      _0 = torch.append(l, torch.mul([1], 90000))\n    return x",
        ),
        (
            "many long texts",
            "    t = \"aaaaaaaaaaaaaaaa\"\n    l = []\n    while True:\n      t = torch.add(t, \"b\")\n      \
          _0 = torch.append(l, t)\n    return x",
        ),
        (
            "many constants",
            "    n = 1000\n    while True:\n      _0 = torch.eye(n)\n      n = torch.sub(n, 1)\n    return x",
        ),
        (
            "search without end",
            "    l = torch.mul([1], 90000)\n    while True:\n      _0 = torch.__contains__(l, 2)\n    return x",
        ),
        ("deep expression", &deep),
        ("long chain", &chain),
        ("long sum", &sum),
        ("many signs", &signs),
        ("deep blocks", &blocks),
    ];
    for (name, body) in cases {
        assert!(run_forward(body).is_err(), "{name}");
    }
}

/// The harness of the test above does convert what is harmless.
#[test]
fn a_plain_program_converts() {
    assert_eq!(run_forward("    return torch.relu(x)").unwrap().n_nodes, 1);
    // As deep as is allowed, on the small stack of a test's thread.
    let blocks: String = (0..90).map(|depth| format!("{}if True:\n", " ".repeat(4 + depth))).collect();
    let nested = format!("{}x{}", "torch.relu(".repeat(90), ")".repeat(90));
    let body = format!("{blocks}{}return {nested}", " ".repeat(100));
    assert_eq!(run_forward(&body).unwrap().n_nodes, 90);
}

/// torch 2 has one operator for what torch 1 wrote out; no fixture of torch 1 can hold it.
#[test]
fn attention_is_what_it_abbreviates() {
    let short = "    return torch.scaled_dot_product_attention(x, x, x, None, 0., False)";
    let long = "    s = torch.mul(torch.matmul(x, torch.transpose(x, -2, -1)), 0.25)\n    \
                return torch.matmul(torch.softmax(s, -1), x)";
    let values: Vec<f32> = (0..768).map(|index| (index as f32 * 0.37).sin()).collect();
    let input = [Array { shape: vec![1, 3, 16, 16], is_int: false, values }];
    let [short, long] = [short, long].map(|body| run(&run_forward(body).unwrap().onnx, &input).unwrap());
    compare(&short, &long, 1e-5).unwrap();
}

#[test]
fn program_text_that_makes_no_sense_is_an_error() {
    for text in [
        "\u{0}",
        "class",
        "class M(",
        "def f(:",
        "x = = 1",
        "if x:\nreturn",
        "\"open",
        "é = 1",
        "))))",
        "\t\tx",
    ] {
        let error = convert_bytes(archive_of(text, EMPTY_MODULE)).unwrap_err();
        assert!(!error.to_string().is_empty(), "{text:?}");
    }
}

/// `sizes` and `strides` of one tensor over a storage of one number.
fn pickled_tensor(sizes: &[i32], strides: &[i32]) -> Vec<u8> {
    let tuple = |numbers: &[i32]| {
        let items: Vec<u8> =
            numbers.iter().flat_map(|n| [vec![b'J'], n.to_le_bytes().to_vec()].concat()).collect();
        [b"(".as_slice(), &items, b"t"].concat()
    };
    let text = |text: &str| [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    let storage =
        [b"(".as_slice(), &text("storage"), b"ctorch\nFloatStorage\n", &text("0"), &text("cpu"), b"K\x01tQ"]
            .concat();
    [
        b"\x80\x02c__torch__\nM\n)\x81}(".as_slice(),
        &text("w"),
        b"ctorch._utils\n_rebuild_tensor_v2\n(",
        &storage,
        b"K\x00",
        &tuple(sizes),
        &tuple(strides),
        b"\x89ccollections\nOrderedDict\n)RtRub.",
    ]
    .concat()
}

#[test]
fn tensors_stay_inside_their_storage_and_their_limit() {
    let code = "class M(Module):\n  w : Tensor\n  def forward(self: __torch__.M,\n    x: Tensor) -> Tensor:\n    \
                return torch.add(x, self.w)\n";
    let convert =
        |sizes: &[i32], strides: &[i32]| convert_bytes(archive_of(code, &pickled_tensor(sizes, strides)));
    assert!(convert(&[1], &[1]).is_ok(), "the harness is sound");
    let outside: [(&[i32], &[i32]); 5] =
        [(&[2], &[1]), (&[-1], &[1]), (&[1], &[1, 1]), (&[1, 2], &[1, i32::MAX]), (&[i32::MAX; 4], &[1; 4])];
    for (sizes, strides) in outside {
        let error = convert(sizes, strides).unwrap_err();
        assert!(matches!(error, ConvertError::Malformed { .. }), "{sizes:?}: {error}");
    }
    // One number, repeated to 16 GiB by strides of zero.
    let error = convert(&[65_536, 65_536], &[0, 0]).unwrap_err();
    assert!(matches!(error, ConvertError::Limit { .. }), "{error}");
}

#[test]
fn pickles_may_call_nothing_but_what_torch_writes() {
    for (module, name) in
        [("os", "system"), ("builtins", "eval"), ("torch", "load"), ("torch.jit._pickle", "x\ny")]
    {
        let pickle = format!("\u{80}c{module}\n{name}\n)R.").replace('\u{80}', "");
        let error = convert_bytes(archive_of("", pickle.as_bytes())).unwrap_err();
        let is_refused =
            matches!(error, ConvertError::UnsupportedPickle { .. } | ConvertError::Malformed { .. });
        assert!(is_refused, "{module}.{name}: {error}");
    }
    let error = convert_bytes(archive_of("", b"cos\nsystem\n(X\x02\x00\x00\x00lstR.")).unwrap_err();
    let ConvertError::UnsupportedPickle { global } = error else { panic!("{error}") };
    assert_eq!(global, "os.system");
}

#[test]
fn pickles_that_nest_or_repeat_without_end_are_stopped() {
    let nested = [b"(".repeat(1_000_000), b"t".repeat(1_000_000), b".".to_vec()].concat();
    let lists = [b"]".repeat(200_000), b"a".repeat(199_999), b".".to_vec()].concat();
    let arguments = [b"ctorch\nFloatStorage\n".to_vec(), b"\x85".repeat(100_000), b".".to_vec()].concat();
    let recalled = [
        b"(".to_vec(),
        b"K\x00".repeat(100_000),
        b"tq\x00".to_vec(),
        b"h\x00".repeat(500_000),
        b".".to_vec(),
    ];
    for pickle in [nested, lists, arguments, recalled.concat(), b"h\x07.".to_vec(), b"(((".to_vec(), vec![]] {
        assert!(convert_bytes(archive_of("", &pickle)).is_err());
    }
}

#[test]
fn a_zip_bomb_is_stopped_at_its_limit() {
    let zeros = vec![0u8; 100 << 20];
    for name in ["code/__torch__.py", "data.pkl"] {
        let mut files =
            vec![("data.pkl".to_owned(), EMPTY_MODULE.to_vec()), ("code/__torch__.py".to_owned(), vec![])];
        for (_, bytes) in files.iter_mut().filter(|(file, _)| file == name) {
            *bytes = zeros.clone();
        }
        let error = convert_bytes(packed(&files, CompressionMethod::Deflated)).unwrap_err();
        assert!(matches!(error, ConvertError::Limit { .. }), "{name}: {error}");
    }
    // A tensor of 100 MiB in an archive of 100 kB.
    let pickle = pickled_tensor(&[1], &[1]);
    let claim = (100 << 20) / 4u32;
    let at = pickle.windows(4).position(|window| window == b"K\x01tQ").unwrap();
    let pickle = [&pickle[..at], b"J", &claim.to_le_bytes(), &pickle[at + 2..]].concat();
    let mut files = unpacked("baked_batch.pt");
    files.retain(|(name, _)| !name.starts_with("data"));
    files.extend([("data.pkl".to_owned(), pickle), ("data/0".to_owned(), zeros)]);
    let error = convert_bytes(packed(&files, CompressionMethod::Deflated)).unwrap_err();
    assert!(matches!(error, ConvertError::Limit { .. }), "{error}");
}

#[test]
fn truncated_archives_are_errors() {
    let bytes = fixture("mlp.pt");
    for length in (0..bytes.len()).step_by(7) {
        assert!(convert_bytes(bytes[..length].to_vec()).is_err(), "{length} bytes");
    }
}

/// Any byte of the zip, the pickle and the program may be another: what comes out is an answer, not a crash.
#[test]
fn damaged_bytes_never_panic() {
    let mut seed = 1u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    };
    let mut n_errors = 0;
    for name in ["baked_batch.pt", "refused_view_write.pt", "mlp.pt"] {
        let files = unpacked(name);
        for _ in 0..400 {
            let mut damaged = files.clone();
            let choices: Vec<usize> = (0..files.len())
                .filter(|index| files[*index].0.ends_with(".pkl") || files[*index].0.ends_with(".py"))
                .collect();
            let bytes = &mut damaged[choices[random(choices.len())]].1;
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                bytes[at] = random(256) as u8;
            }
            n_errors += usize::from(convert_bytes(packed(&damaged, CompressionMethod::Stored)).is_err());
        }
        let mut bytes = fixture(name);
        for _ in 0..200 {
            let at = random(bytes.len());
            let before = std::mem::replace(&mut bytes[at], random(256) as u8);
            n_errors += usize::from(convert_bytes(bytes.clone()).is_err());
            bytes[at] = before;
        }
    }
    assert!(n_errors > 600, "most damage is noticed: {n_errors}");
}
