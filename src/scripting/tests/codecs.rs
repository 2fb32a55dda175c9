//! cjson, cmsgpack and struct on random input: nothing panics, and what goes in comes out.

use proptest::prelude::*;

use super::*;

thread_local! {
    /// One VM for all cases: to make one takes longer than a case.
    static VM: Vm = Vm::new(Engine::Scripts, &Random::default());
}

/// Runs a script with these arguments.
fn run(script: &str, args: &[&[u8]]) -> Vec<u8> {
    VM.with(|vm| {
        let function = vm.compile(script.as_bytes()).expect("a script");
        let mut out = Vec::new();
        let (function, words) = (&function, &Words::of(args));
        let call = Invocation { function, name: "test", words, first: 0, key_count: 0 };
        let host = (&mut FakeHost::default() as &mut dyn Host, &mut Buffers::default());
        let outcome = vm.run(&call, host, &mut Reply::new(&mut out, false));
        outcome.expect("not aborted");
        out
    })
}

/// A Lua expression for some value, without NaN and without tables that JSON cannot hold.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(|number| format!("({number})")),
        (any::<i16>(), 0..4_i32).prop_map(|(number, by)| format!("({number}/2^{by})")),
        any::<bool>().prop_map(|value| value.to_string()),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| {
            let escapes: String = bytes.iter().map(|byte| format!("\\{byte:03}")).collect();
            format!("'{escapes}'")
        }),
    ];
    leaf.prop_recursive(4, 40, 20, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20)
                .prop_map(|items| format!("{{{}}}", items.join(","))),
            prop::collection::btree_map("[a-z]{1,3}", inner, 1..8).prop_map(|fields| {
                let fields: Vec<_> =
                    fields.into_iter().map(|(key, value)| format!("k{key}={value}")).collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    })
}

const SAME: &str = "local function same(a, b)
    if type(a) ~= 'table' or type(b) ~= 'table' then return a == b end
    for k, v in pairs(a) do if not same(v, b[k]) then return false end end
    for k in pairs(b) do if a[k] == nil then return false end end
    return true
  end ";

proptest! {
    #[test]
    fn what_is_packed_is_unpacked(value in expression()) {
        for codec in ["cmsgpack.unpack(cmsgpack.pack(v))", "cjson.decode(cjson.encode(v))"] {
            let script = format!("{SAME} local v = {value} return same(v, {codec})");
            prop_assert_eq!(escaped(&run(&script, &[])), ":1\\r\\n", "{}", codec);
        }
    }

    #[test]
    fn integers_survive_struct(value in any::<i32>(), size in 4..=8_usize, order in "[<>]") {
        let script = format!(
            "local f = '{order}!4bi{size}x' return {{struct.unpack(f, struct.pack(f, -1, {value}))}}"
        );
        let expected = format!("*3\r\n:-1\r\n:{value}\r\n");
        let got = String::from_utf8_lossy(&run(&script, &[])).into_owned();
        prop_assert!(got.starts_with(&expected), "{}", got);
    }

    #[test]
    fn garbage_is_an_error_at_worst(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        format in "[<>!bBhHlLTfdxcisI0-9 ]{0,8}",
    ) {
        for (script, args) in [
            ("cmsgpack.unpack(ARGV[1])", &[bytes.as_slice()][..]),
            ("cmsgpack.unpack_limit(ARGV[1], 3)", &[&bytes]),
            ("cjson.decode(ARGV[1])", &[&bytes]),
            ("struct.unpack(ARGV[2], ARGV[1])", &[&bytes, format.as_bytes()]),
            ("struct.size(ARGV[2])", &[&bytes, format.as_bytes()]),
        ] {
            let reply = run(&format!("return select('#', pcall(function() return {script} end))"), args);
            prop_assert_eq!(reply.first(), Some(&b':'), "{}", script);
        }
    }

    #[test]
    fn json_made_of_its_own_letters_is_an_error_at_worst(text in "[\\[\\]{}:,\"\\\\utrefalsn0-9.e+ -]{0,40}") {
        let reply = run("return select('#', pcall(cjson.decode, ARGV[1]))", &[text.as_bytes()]);
        prop_assert_eq!(&reply, b":2\r\n");
    }
}
