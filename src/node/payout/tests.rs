//! Addresses, scripts and descriptors against the vectors of the BIPs that define them.

use super::*;

const NETWORKS: [Network; 5] =
    [Network::Main, Network::Test, Network::Testnet4, Network::Signet, Network::Regtest];
/// The key of the examples of BIP381, BIP382 and BIP386, and another one.
const KEY: &str = "03a34b99f22c790c4e36b2b3c2c35a36db06226e41c692fc82b8b56ac1c540c5bd";
const OTHER_KEY: &str = "02e493dbf1c10d80f3581e4904930b1404cc6c13900ee0758474fa94abe8c4cd13";
/// The master of the first test vector of BIP32.
const EXTENDED: &str = "xpub661MyMwAqRbcFtXgS5sYJABqqG9YLmC4Q1Rdap9gSE8NqtwybGhePY2gZ29ESFjqJoCu1R\
                        upje8YtGqsefD265TMg7usUDFdp6W1EGMcet8";

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn pays(descriptor: &str, script: &str) {
    let bytes = descriptor_script(descriptor, Network::Main)
        .unwrap_or_else(|error| panic!("{descriptor}: {error}"));
    assert_eq!(digits(&bytes), script, "{descriptor}");
}

#[track_caller]
fn refused(descriptor: &str) -> PayoutError {
    descriptor_script(descriptor, Network::Main).expect_err(descriptor)
}

#[test]
fn every_type_of_address_is_paid_by_its_own_script() {
    // From the examples of BIP173, BIP350 and the first addresses of the main chain.
    let rows = [
        (
            "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
            "76a91462e907b15cbf27d5425399ebf6f0fb50ebb88f1888ac",
        ),
        ("3P14159f73E4gFr7JterCCQh9QjiTjiZrG", "a914e9c3dd0c07aac76179ebc76a6c78d4d67c6c160a87"),
        (
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
            "0014751e76e8199196d454941c45d1b3a323f1433bd6",
        ),
        (
            "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4",
            "0014751e76e8199196d454941c45d1b3a323f1433bd6",
        ),
        (
            "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0",
            "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        ),
        ("bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs", "5210751e76e8199196d454941c45d1b3a323"),
    ];
    for (address, script) in rows {
        let bytes = address_script(address, Network::Main).expect("a good address");
        assert_eq!(digits(&bytes), script, "{address}");
    }
    let long = "tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7";
    let bytes = address_script(long, Network::Testnet4).expect("a good address");
    assert_eq!(
        digits(&bytes),
        "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262"
    );
}

#[test]
fn every_type_is_known_on_every_network_and_refused_on_the_others() {
    let hash = "11".repeat(20);
    let long = "22".repeat(32);
    let taproot = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    // Script, and whether all test chains write its address alike.
    let scripts = [
        (format!("76a914{hash}88ac"), true),
        (format!("a914{hash}87"), true),
        (format!("0014{hash}"), false),
        (format!("0020{long}"), false),
        (format!("5120{taproot}"), false),
    ];
    for (script, base58) in &scripts {
        let bytes = hex_script(script).expect("a good script");
        for home in NETWORKS {
            let address = address_of(&bytes, home).expect("it has an address");
            for network in NETWORKS {
                let alike = if *base58 {
                    (home == Network::Main) == (network == Network::Main)
                } else {
                    let beginning = |network| match network {
                        Network::Main => "bc",
                        Network::Regtest => "bcrt",
                        Network::Test | Network::Testnet4 | Network::Signet => "tb",
                    };
                    beginning(home) == beginning(network)
                };
                let other = Err(PayoutError::OtherNetwork { wanted: network });
                let wanted = if alike { Ok(bytes.clone()) } else { other };
                assert_eq!(address_script(&address, network), wanted, "{address} on {network}");
            }
        }
    }
}

#[test]
fn a_wrong_letter_is_no_other_network() {
    for wrong in
        ["1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5"]
    {
        let error = address_script(wrong, Network::Main).expect_err(wrong);
        assert!(matches!(error, PayoutError::NotAnAddress { .. }), "{error}");
    }
}

#[test]
fn scripts_in_hex_are_taken_as_they_are_unless_a_block_would_be_worthless() {
    assert_eq!(hex_script("51"), Ok(vec![0x51]));
    assert_eq!(hex_script(" 00AB "), Ok(vec![0, 0xab]));
    for text in ["5", "5g", "0x51", "+1+1", "ää"] {
        assert_eq!(hex_script(text), Err(PayoutError::NotHex), "{text}");
    }
    assert_eq!(hex_script(""), Err(PayoutError::Empty));
    for text in ["4c", "76a914", "05", "4d0102", "4e000001", "51ff05", "6305"] {
        let refused = hex_script(text).expect_err(text);
        let lost = matches!(refused, PayoutError::CutShort | PayoutError::Unspendable { .. });
        assert!(lost && refused.to_string().contains("lost"), "{text}: {refused}");
    }
    // Returned, no operation at all, reserved, switched off; one behind a push, too.
    for (text, name) in [
        ("6a0101", "OP_RETURN"),
        ("ff", "OP_INVALIDOPCODE"),
        ("ba", "OP_CHECKSIGADD"),
        ("50", "OP_RESERVED"),
        ("7e", "OP_CAT"),
        ("51016a6a", "OP_RETURN"),
    ] {
        let operation = name.to_owned();
        assert_eq!(hex_script(text), Err(PayoutError::Unspendable { operation }), "{text}");
    }
    // Behind a branch it may never be executed.
    assert!(hex_script("51636a6751").is_ok());
    // OP_NOP asks for nothing and counts as nothing.
    assert!(hex_script(&"61".repeat(SCRIPT_BYTES_MAX)).is_ok());
    let bytes = SCRIPT_BYTES_MAX + 1;
    assert_eq!(hex_script(&"61".repeat(bytes)), Err(PayoutError::TooLong { bytes }));
    // OP_CHECKSIG counts one, OP_CHECKMULTISIG twenty, whatever stands before it.
    assert!(hex_script(&"ac".repeat(100)).is_ok());
    let count = 120;
    assert_eq!(hex_script(&"ae".repeat(6)), Err(PayoutError::TooManySignatureOperations { count }));
}

#[test]
fn coins_that_anybody_may_take_are_told_apart() {
    for script in ["51", "5210751e76e8199196d454941c45d1b3a323", "51024e73"] {
        let bytes = hex_script(script).expect("a good script");
        assert!(anybody_can_spend(&bytes).is_some(), "{script}");
    }
    let taproot = format!("5120{}", "79".repeat(32));
    let hash = format!("0014{}", "11".repeat(20));
    for script in [taproot.as_str(), &hash, "a914e9c3dd0c07aac76179ebc76a6c78d4d67c6c160a87"] {
        let bytes = hex_script(script).expect("a good script");
        assert_eq!(anybody_can_spend(&bytes), None, "{script}");
    }
}

#[test]
fn descriptors_pay_what_the_bips_say() {
    let x_only = &KEY[2..];
    pays(&format!("pk({KEY})"), &format!("21{KEY}ac"));
    pays(&format!("pkh({KEY})"), "76a9149a1c78a507689f6f54b847ad1cef1e614ee23f1e88ac");
    pays(&format!("wpkh({KEY})"), "00149a1c78a507689f6f54b847ad1cef1e614ee23f1e");
    pays(&format!("sh(wpkh({KEY}))"), "a91484ab21b1b2fd065d4504ff693d832434b6108d7b87");
    pays(
        &format!("wsh(pkh({KEY}))"),
        "0020338e023079b91c58571b20e602d7805fb808c22473cbc391a41b1bd3a192e75b",
    );
    pays(&format!("sh(wsh(pkh({KEY})))"), "a914b61b92e2ca21bac1e72a3ab859a742982bea960a87");
    pays(
        &format!("tr({x_only})"),
        "512077aab6e066f8a7419c5ab714c12c67d25007ed55a43cadcacb4d7a970a093f11",
    );
    let address = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
    pays(&format!("addr({address})"), "0014751e76e8199196d454941c45d1b3a323f1433bd6");
    pays("raw(51ac)", "51ac");
    // Where a key comes from does not change what it is.
    pays(
        &format!("wpkh([d34db33f/84h/0'/0'/0/7]{KEY})"),
        "00149a1c78a507689f6f54b847ad1cef1e614ee23f1e",
    );
    let two = descriptor_script(&format!("wsh(sortedmulti(1,{KEY},{OTHER_KEY}))"), Network::Main);
    let swapped = format!("wsh(sortedmulti(1,{OTHER_KEY},{KEY}))");
    assert_eq!(two, descriptor_script(&swapped, Network::Main), "sorted");
    assert_eq!(two.map(|script| script.len()), Ok(34));
}

#[test]
fn a_checksum_is_verified() {
    pays("raw(51ac)#f5ar6z5d", "51ac");
    pays(" raw(51ac) ", "51ac");
    // The valid and the invalid ones of BIP380, whose script nobody can spend.
    let operation = "OP_RETURN_222".to_owned();
    assert_eq!(refused("raw(deadbeef)#89f8spxm"), PayoutError::Unspendable { operation });
    for wrong in [
        "raw(deadbeef)#",
        "raw(deadbeef)#89f8spxmx",
        "raw(deadbeef)#89f8spx",
        "raw(dedbeef)#89f8spxm",
        "raw(deadbeef)##9f8spxm",
    ] {
        let error = refused(wrong);
        assert_eq!(error, DescriptorError::Checksum.into(), "{wrong}");
    }
    let error = refused("raw(Ü)#00000000");
    let wanted = DescriptorError::Character { character: 'Ü', position: 4 };
    assert_eq!(error, wanted.into());
}

#[test]
fn what_names_more_than_one_script_is_refused() {
    for ranged in ["wpkh(XPUB/0/*)", "pkh(XPUB/*h)", "wpkh(XPUB/<0;1>/7)", "tr(XPUB/0/*)"] {
        let error = refused(&ranged.replace("XPUB", EXTENDED));
        let plain = [DescriptorError::Ranged, DescriptorError::ExtendedKey];
        assert!(matches!(&error, PayoutError::Descriptor(kind) if plain.contains(kind)), "{error}");
    }
    let ranged = refused(&format!("wpkh({EXTENDED}/0/*)"));
    assert_eq!(ranged, DescriptorError::Ranged.into());
    assert!(ranged.to_string().contains("ranged"), "{ranged}");
    for one in ["wpkh(XPUB)", "wpkh(XPUB/0/7)", "wsh(multi(1,XPUB/0/7,KEY))"] {
        let error = refused(&one.replace("XPUB", EXTENDED).replace("KEY", KEY));
        assert_eq!(error, DescriptorError::ExtendedKey.into(), "{one}");
    }
    for kind in ["combo", "rawtr", "musig", "multi"] {
        let error = refused(&format!("{kind}({KEY})"));
        assert_eq!(error, DescriptorError::Kind(kind.to_owned()).into());
        assert!(error.remedy().contains("wpkh()"), "{}", error.remedy());
    }
}

#[test]
fn a_private_key_is_refused_and_never_repeated() {
    let single = "L4rK1yDtCWekvXuE6oXD9jCYfFNV2cWRpVuPLBcCU2z8TrisoyY1";
    let extended = "xprv9s21ZrQH143K3QTDL4LXw2F7HEK3wJUD2nW2nRk4stbPy6cq3jPPqjiChkVvvNKmPGJxWUtg6Ln\
                    F5kejMRNNU3TGtRBeJgk33yuGBxrMPHi";
    let slip = single.replace("L4rK", "L4rX");
    for key in [single, extended, &slip] {
        for text in [format!("wpkh({key})"), format!("wpkh({key}/0/*)"), format!("sh(wpkh({key}))")]
        {
            let error = refused(&text);
            assert_eq!(error, DescriptorError::PrivateKey.into());
            assert!(!format!("{error} {} {error:?}", error.remedy()).contains(key));
        }
    }
}

#[test]
fn what_is_no_descriptor_says_so() {
    for text in ["", "wpkh", "wpkh(", "(", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"] {
        assert_eq!(refused(text), DescriptorError::NotADescriptor.into(), "{text}");
    }
    let uncompressed = "04a34b99f22c790c4e36b2b3c2c35a36db06226e41c692fc82b8b56ac1c540c5bd5b8dec523\
                        5a0fa8722476c7709c02559e3aa73aa03918ba2d492eea75abea235";
    let senseless = [
        "wpkh()".to_owned(),
        "wpkh(02ab)".to_owned(),
        format!("wpkh({uncompressed})"),
        format!("wsh(wpkh({KEY}))"),
        format!("sh(addr({KEY}))"),
        "wsh(older(5))".to_owned(),
        format!("tr({KEY},{KEY})"),
        format!("wpkh({KEY}))"),
    ];
    for text in senseless {
        let error = refused(&text);
        let PayoutError::Descriptor(DescriptorError::Refused(reason)) = &error else {
            panic!("{text}: {error:?}")
        };
        assert!(!reason.is_empty() && !reason.contains('\n'), "{reason:?}");
    }
    let other = descriptor_script("addr(1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa)", Network::Regtest);
    assert_eq!(other, Err(PayoutError::OtherNetwork { wanted: Network::Regtest }));
    assert_eq!(refused("raw(xy)"), PayoutError::NotHex);
    let unspendable = PayoutError::Unspendable { operation: "OP_RETURN".to_owned() };
    assert_eq!(refused("raw(6a)"), unspendable);
}
