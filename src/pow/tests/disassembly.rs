//! The kernels as they were built: SHA-NI and AVX never meet in one function.
//!
//! The SHA instructions have the legacy encoding only. Among AVX code each switch costs 70–85 ns,
//! a hundredfold; one compiler flag or one inlined call is enough. So the machine code itself is
//! looked at: of this test, and of the product where it was built beside it.
#![cfg(target_arch = "x86_64")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use pow::{Extranonce, Hash256, Kernel, Share, Work, WorkParts};

/// What one function's instructions name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Function {
    name: String,
    sha_ni: bool,
    /// Any register beyond xmm, or any instruction of AVX's encodings.
    avx: bool,
    zmm: bool,
}

#[test]
fn sha_ni_and_avx_never_meet_in_one_function() {
    link_every_kernel();
    let this = env::current_exe().expect("the test has a file");
    let functions = disassemble(&this);
    check(&this, &functions);
    assert!(
        functions.iter().any(|function| function.zmm && function.name.contains("pow")),
        "no function of pow uses zmm: the search is blind"
    );
    if let Some(product) = product_beside(&this) {
        check(&product, &disassemble(&product));
    }
}

#[test]
fn the_search_finds_a_meeting() {
    let listing = "\
0000000000001000 <pow_clean_sha>:
    1000:\tsha256rnds2 %xmm0,%xmm1,%xmm2
    1004:\tret

0000000000001010 <pow_mixed>:
    1010:\tvpaddd %ymm0,%ymm1,%ymm2
    1014:\tsha256rnds2 %xmm0,%xmm1,%xmm2

0000000000001020 <pow_vex_only>:
    1020:\tvpaddd %xmm0,%xmm1,%xmm2
    1024:\tsha256rnds2 %xmm0,%xmm1,%xmm2

0000000000001030 <pow_lanes>:
    1030:\tvpternlogd $0x96,%zmm0,%zmm1,%zmm2
";
    let functions = parse(listing);
    let sees = |name: &str| {
        let function = functions.iter().find(|function| function.name == name);
        let function = function.expect("it is in the listing");
        (function.sha_ni, function.avx, function.zmm)
    };
    assert_eq!(sees("pow_clean_sha"), (true, false, false));
    assert_eq!(sees("pow_mixed"), (true, true, false));
    assert_eq!(sees("pow_vex_only"), (true, true, false));
    assert_eq!(sees("pow_lanes"), (false, true, true));
    assert_eq!(meetings(&functions), ["pow_mixed", "pow_vex_only"]);
    assert!(std::panic::catch_unwind(|| check(Path::new("x"), &functions)).is_err());
    assert!(std::panic::catch_unwind(|| check(Path::new("x"), &functions[3..])).is_err());
    check(Path::new("x"), &functions[..1]);
}

/// Uses all that hashes, so that the linker keeps it.
fn link_every_kernel() {
    let work = Work::new(WorkParts {
        coinbase_first: &[1; 70],
        coinbase_second: &[2; 90],
        extranonce_size: 8,
        merkle_path: &[Hash256([3; 32])],
        prev_hash: Hash256::ZERO,
        bits: 0x1d00_ffff,
    })
    .expect("within the limits");
    let extranonce = Extranonce::new(&[4; 8]).expect("within the limit");
    let share = Share { extranonce, version: 1, ntime: 2, nonce: 3 };
    let mut hashes = Vec::new();
    for kernel in Kernel::available() {
        let mut out = [Hash256::ZERO; 20];
        kernel.hash_shares(&[(&work, share); 20], &mut out);
        kernel.hash_nodes(&[[5; 64]; 20], &mut out[..20]);
        hashes.push(out);
    }
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "the kernels disagree");
}

/// The release or debug product, where this test's build folder holds one.
fn product_beside(this: &Path) -> Option<PathBuf> {
    let product = this.parent()?.parent()?.join("headframe");
    product.is_file().then_some(product)
}

fn disassemble(file: &Path) -> Vec<Function> {
    let output = Command::new("objdump")
        .args(["--disassemble", "--no-show-raw-insn"])
        .arg(file)
        .output()
        .expect("objdump is needed to look at the kernels: install the package binutils");
    assert!(output.status.success(), "objdump: {}", String::from_utf8_lossy(&output.stderr));
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(listing: &str) -> Vec<Function> {
    let mut functions: Vec<Function> = Vec::new();
    for line in listing.lines() {
        if let Some(name) = line.strip_suffix(">:").and_then(|head| head.split_once('<')) {
            functions.push(Function { name: name.1.to_owned(), ..Function::default() });
        } else if let (Some(function), Some((_, code))) =
            (functions.last_mut(), line.split_once('\t'))
        {
            // verr and verw are the only other instructions that begin with a v.
            let vector = code.starts_with('v') && !code.starts_with("ver");
            function.sha_ni |= code.starts_with("sha256rnds2");
            function.zmm |= code.contains("%zmm");
            function.avx |= vector || code.contains("%ymm") || code.contains("%zmm");
        }
    }
    functions
}

fn meetings(functions: &[Function]) -> Vec<&str> {
    let mixed = functions.iter().filter(|function| function.sha_ni && function.avx);
    mixed.map(|function| function.name.as_str()).collect()
}

fn check(file: &Path, functions: &[Function]) {
    let file = file.display();
    let ours = |function: &&Function| function.sha_ni && function.name.contains("pow");
    let found = functions.iter().filter(ours).count();
    assert!(found > 0, "{file}: no sha256rnds2 of pow in {} functions", functions.len());
    let mixed = meetings(functions);
    assert!(mixed.is_empty(), "{file}: SHA-NI among AVX code in {mixed:?}");
}
