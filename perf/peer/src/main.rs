//! A template provider without a node: it answers pool_sv2's Template Distribution link with one
//! template of mainnet difficulty and a merkle path as deep as asked, so that the peer of the
//! comparison (translator_sv2 in front of pool_sv2) starts in a second. It makes no valid blocks
//! and checks nothing; it only has to give the peer the same kind of work as headframe has.
//!
//! Usage: `template-stand-in LISTEN_ADDRESS BITS_HEX PATH_DEPTH`. Sending a line on standard input
//! announces a new previous hash, which is how the runner times the peer's job fan-out.

use std::error::Error;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use stratum_apps::key_utils::{Secp256k1PublicKey, Secp256k1SecretKey};
use stratum_apps::network_helpers::accept_noise_connection;
use stratum_apps::stratum_core::common_messages_sv2::SetupConnectionSuccessOwned;
use stratum_apps::stratum_core::parsers_sv2::{
    AnyMessage, AnyMessageOwned, CommonMessagesOwned, TemplateDistributionOwned,
};
use stratum_apps::stratum_core::template_distribution_sv2::{NewTemplateOwned, SetNewPrevHashOwned};
use stratum_apps::utils::types::OutboundFrame;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};

/// The public test pair of the reference configurations.
const AUTHORITY_PUBLIC: &str = "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72";
const AUTHORITY_SECRET: &str = "mkDLTBBRxdBv998612qipDYoTK3YUrqLe8uWw7gu3iXbSrn2n";
const CERTIFICATE_SECONDS: u64 = 3_600;
/// Any height above BIP34's short forms, with three bytes in the coinbase.
const HEIGHT: u32 = 850_000;
const COINBASE_VALUE_SAT: u64 = 312_500_000;
/// A peer that does not read its templates is of no use; a small queue shows it.
const QUEUE_MESSAGES: usize = 64;

#[derive(Clone, Copy)]
struct Work {
    bits: u32,
    path_depth: usize,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: template-stand-in LISTEN_ADDRESS BITS_HEX PATH_DEPTH";
    let address: SocketAddr = arguments.next().ok_or(usage)?.parse()?;
    let bits = u32::from_str_radix(&arguments.next().ok_or(usage)?, 16)?;
    let path_depth = arguments.next().ok_or(usage)?.parse()?;
    let listener = TcpListener::bind(address).await?;
    println!("template stand-in on {address}");
    let (tips, _) = broadcast::channel(QUEUE_MESSAGES);
    std::thread::spawn({
        let tips = tips.clone();
        move || std::io::stdin().lines().for_each(|_| drop(tips.send(())))
    });
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let tips = tips.subscribe();
        tokio::spawn(async move {
            if let Err(error) = serve(stream, Work { bits, path_depth }, tips).await {
                println!("{peer}: {error}");
            }
        });
    }
}

async fn serve(
    stream: TcpStream,
    work: Work,
    mut tips: broadcast::Receiver<()>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let public: Secp256k1PublicKey = AUTHORITY_PUBLIC.parse().map_err(|_| "public key")?;
    let secret: Secp256k1SecretKey = AUTHORITY_SECRET.parse().map_err(|_| "secret key")?;
    let link = accept_noise_connection(stream, public, secret, CERTIFICATE_SECONDS)
        .await
        .map_err(|error| format!("handshake: {error:?}"))?;
    let (mut reader, mut writer) = link.into_split();
    let (outbox, mut messages) = mpsc::channel::<AnyMessageOwned>(QUEUE_MESSAGES);
    tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            let Ok(frame) = OutboundFrame::from_message(message) else { break };
            if writer.write_frame(frame).await.is_err() {
                break;
            }
        }
    });
    let mut template_id = 0;
    tokio::spawn({
        let outbox = outbox.clone();
        async move {
            let mut template_id = 1_000_000;
            while tips.recv().await.is_ok() {
                template_id += 1;
                if announce(&outbox, template_id, work).await.is_err() {
                    break;
                }
            }
        }
    });
    loop {
        let mut frame = reader.read_frame().await.map_err(|error| format!("{error:?}"))?;
        let header = frame.header();
        let payload = frame.payload();
        let Ok(message) = AnyMessage::try_from((header, payload)) else {
            return Err("a frame that does not parse".into());
        };
        match message.into_owned() {
            AnyMessageOwned::Common(CommonMessagesOwned::SetupConnection(_)) => {
                let success = SetupConnectionSuccessOwned { used_version: 2, flags: 0 };
                let answer = CommonMessagesOwned::SetupConnectionSuccess(success);
                outbox.send(AnyMessageOwned::Common(answer)).await?;
            }
            AnyMessageOwned::TemplateDistribution(
                TemplateDistributionOwned::CoinbaseOutputConstraints(_),
            ) => {
                template_id += 1;
                announce(&outbox, template_id, work).await?;
            }
            _ => {}
        }
    }
}

/// A future template and the previous hash that activates it.
async fn announce(
    outbox: &mpsc::Sender<AnyMessageOwned>,
    template_id: u64,
    work: Work,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    for message in [new_template(template_id, work)?, new_prev_hash(template_id, work)] {
        outbox.send(AnyMessageOwned::TemplateDistribution(message)).await?;
    }
    Ok(())
}

fn new_template(
    template_id: u64,
    work: Work,
) -> Result<TemplateDistributionOwned, Box<dyn Error + Send + Sync>> {
    let mut bip34 = vec![0x03];
    bip34.extend_from_slice(&HEIGHT.to_le_bytes()[..3]);
    let mut commitment = vec![0; 8];
    commitment.extend_from_slice(&[38, 0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed]);
    commitment.extend_from_slice(&[0x5a; 32]);
    let path: Vec<_> = (0..work.path_depth)
        .map(|level| {
            let mut node = [level as u8; 32];
            node[..8].copy_from_slice(&template_id.to_le_bytes());
            node.into()
        })
        .collect();
    let bad = |_| "a field that does not fit its message";
    Ok(TemplateDistributionOwned::NewTemplate(NewTemplateOwned {
        template_id,
        future_template: true,
        version: 0x2000_0000,
        coinbase_tx_version: 2,
        coinbase_prefix: bip34.try_into().map_err(bad)?,
        coinbase_tx_input_sequence: 0xffff_fffe,
        coinbase_tx_value_remaining: COINBASE_VALUE_SAT,
        coinbase_tx_outputs_count: 1,
        coinbase_tx_outputs: commitment.try_into().map_err(bad)?,
        coinbase_tx_locktime: HEIGHT - 1,
        merkle_path: path.try_into().map_err(|_| "too deep a merkle path")?,
    }))
}

fn new_prev_hash(template_id: u64, work: Work) -> TemplateDistributionOwned {
    let mut prev_hash = [0; 32];
    prev_hash[..8].copy_from_slice(&template_id.to_le_bytes());
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TemplateDistributionOwned::SetNewPrevHash(SetNewPrevHashOwned {
        template_id,
        prev_hash: prev_hash.into(),
        header_timestamp: since_epoch.as_secs() as u32,
        n_bits: work.bits,
        target: [0xff; 32].into(),
    })
}
