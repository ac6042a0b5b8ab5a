//! The servers under load, each started alone and pinned to the first core: the echo floor,
//! headframe on its simulated node or on a bitcoind, and translator_sv2 in front of pool_sv2.

use std::error::Error;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// The core of whatever is measured.
pub const SERVER_CORE: &str = "0";
/// The core of the generators.
pub const GENERATOR_CORE: &str = "1";
const START_SECONDS_MAX: u64 = 60;
/// Mainnet's bits of a difficulty that no generator ever meets.
const MAINNET_DIFFICULTY: f64 = 1e14;

/// What is put under load.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// The bare ring with the same bytes.
    Echo {
        /// Bytes of one request, one reply and one job.
        bytes: [u64; 3],
    },
    /// One shard of headframe with these extra lines in `[shards]`.
    Headframe {
        /// The program's name: builds differ.
        program: &'static str,
        /// `key = value` lines.
        shards: String,
        /// Seconds between new tips.
        block_seconds: u32,
    },
    /// One shard of headframe on a bitcoind.
    OnBitcoind {
        /// `key = value` lines of `[node]`.
        node: String,
    },
    /// translator_sv2, pool_sv2 and the template stand-in.
    Translator,
}

impl Kind {
    /// An echo with other bytes, where any were seen; everything else as it is.
    #[must_use]
    pub fn with_bytes(&self, seen: Option<[u64; 3]>) -> Kind {
        match (self, seen) {
            (Kind::Echo { bytes }, Some(seen)) => {
                let bytes = [0, 1, 2].map(|at| if seen[at] > 0 { seen[at] } else { bytes[at] });
                Kind::Echo { bytes }
            }
            _ => self.clone(),
        }
    }
}

/// A server that runs until this is dropped.
pub struct Server {
    /// Where miners connect.
    pub address: SocketAddr,
    /// The process whose CPU and memory count.
    pub pid: u32,
    children: Vec<Child>,
    tips: Option<ChildStdin>,
    folder: PathBuf,
}

impl Server {
    /// Starts one and waits until it takes connections.
    ///
    /// # Errors
    /// When a program is missing or does not come up.
    pub fn start(kind: &Kind, peers: Option<&Path>) -> Result<Server, Box<dyn Error>> {
        let folder = std::env::temp_dir().join(format!("headframe-perf-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        match kind {
            Kind::Echo { bytes: [_, reply, job] } => start_echo(folder, *reply, *job),
            Kind::Headframe { program, shards, block_seconds } => {
                start_headframe(folder, program, shards, &simulated(*block_seconds))
            }
            Kind::OnBitcoind { node } => {
                let node = format!("[node]\n{node}\n[payout]\nscript = \"51\"\n");
                start_headframe(folder, "headframe", "", &node)
            }
            Kind::Translator => start_translator(folder, peers.ok_or("the peer is not built")?),
        }
    }

    /// Makes the peer's template source announce a new previous hash.
    pub fn new_tip(&mut self) {
        if let Some(tips) = &mut self.tips {
            let _ = tips.write_all(b"tip\n");
            let _ = tips.flush();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The newest first: what depends goes before what it depends on.
        for child in self.children.iter_mut().rev() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The path of a program that was built beside this one.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.with_file_name(name)
}

fn pinned(program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", SERVER_CORE]).arg(program);
    // The peers log every share by default, which would be charged to them.
    command.env("RUST_LOG", "warn");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A port below the range from which the kernel takes those of outgoing connections, and above
/// those of the regtest nodes.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16, Box<dyn Error>> {
    static NEXT: AtomicU16 = AtomicU16::new(23_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if port > 30_000 {
            return Err("no free port between 23,000 and 30,000".into());
        }
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
}

fn start_echo(folder: PathBuf, reply_bytes: u64, job_bytes: u64) -> Result<Server, Box<dyn Error>> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let mut command = pinned(&program("perf-echo"));
    command.args([address.to_string(), reply_bytes.to_string(), job_bytes.to_string()]);
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    let output = child.stdout.take().ok_or("no output")?;
    BufReader::new(output).read_line(&mut line)?;
    let pid = child.id();
    Ok(Server { address, pid, children: vec![child], tips: None, folder })
}

fn start_headframe(
    folder: PathBuf,
    name: &str,
    shards: &str,
    node: &str,
) -> Result<Server, Box<dyn Error>> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let http = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let state = folder.join("state");
    let config = format!(
        "[listen]\naddress = [\"{address}\"]\n[state]\ndirectory = {state:?}\n\
         [shards]\ncount = 1\n{shards}\n\
         [difficulty]\nstart = 1e-10\nminimum = 1e-10\nmaximum = 1e-10\n{node}\
         [limits]\nconnections = 19000\nper_source = 19000\nfingerprints = 1000000\n\
         [http]\naddress = \"{http}\"\n[log]\nlevel = \"warn\"\n"
    );
    let file = folder.join("headframe.toml");
    fs::write(&file, config)?;
    let log = fs::File::create(folder.join("log"))?;
    let mut command = pinned(&program(name));
    command.args(["run".as_ref(), "--config".as_ref(), file.as_os_str()]).stderr(log);
    let mut child = command.spawn()?;
    let pid = child.id();
    if let Err(error) = wait_ready(http) {
        let _ = child.kill();
        let _ = child.wait();
        let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
        return Err(format!("headframe: {error}\n{log}").into());
    }
    Ok(Server { address, pid, children: vec![child], tips: None, folder })
}

/// A chain whose blocks nobody under load finds.
fn simulated(block_seconds: u32) -> String {
    format!(
        "[node]\nsimulated = true\n[node.simulation]\ndifficulty = {MAINNET_DIFFICULTY:e}\n\
         block_seconds = {block_seconds}\nspacing = \"fixed\"\ntransactions = 4000\n"
    )
}

/// Asks `/readyz` until it says 200: listening and with a job.
///
/// # Errors
/// When it is not ready within a minute.
pub fn wait_ready(http: SocketAddr) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    loop {
        if let Ok(mut stream) = TcpStream::connect(http) {
            stream.write_all(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
            let mut answer = String::new();
            if stream.read_to_string(&mut answer).is_ok() && answer.contains(" 200 ") {
                return Ok(());
            }
        }
        if start.elapsed() > Duration::from_secs(START_SECONDS_MAX) {
            return Err("not ready in time".into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn start_translator(folder: PathBuf, peers: &Path) -> Result<Server, Box<dyn Error>> {
    let [template, pool, miners] = [free_port()?, free_port()?, free_port()?];
    let [pool_pages, translator_pages] = [free_port()?, free_port()?];
    let stand_in = peers.join("stand-in/release/template-stand-in");
    let mut command = pinned(&stand_in);
    command.args([&format!("127.0.0.1:{template}"), "1703255b", "12"]).stdin(Stdio::piped());
    let mut children = vec![command.spawn()?];
    let tips = children[0].stdin.take();
    wait_port(template)?;
    let pool_file = folder.join("pool.toml");
    fs::write(&pool_file, pool_config(pool, template, pool_pages))?;
    let log = fs::File::create(folder.join("pool.log"))?;
    let mut command = pinned(&peers.join("root/bin/pool_sv2"));
    children.push(command.arg("-c").arg(&pool_file).stdout(log).spawn()?);
    wait_port(pool)?;
    let translator_file = folder.join("translator.toml");
    fs::write(&translator_file, translator_config(miners, pool, translator_pages))?;
    let log = fs::File::create(folder.join("translator.log"))?;
    let mut command = pinned(&peers.join("root/bin/translator_sv2"));
    children.push(command.arg("-c").arg(&translator_file).stdout(log).spawn()?);
    let pid = children[2].id();
    wait_port(miners)?;
    std::thread::sleep(Duration::from_secs(2));
    let address = SocketAddr::from(([127, 0, 0, 1], miners));
    Ok(Server { address, pid, children, tips, folder })
}

fn wait_port(port: u16) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if start.elapsed() > Duration::from_secs(START_SECONDS_MAX) {
            return Err(format!("nothing listens on port {port}").into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// The public test pair of the reference configurations.
const AUTHORITY_PUBLIC: &str = "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72";
const AUTHORITY_SECRET: &str = "mkDLTBBRxdBv998612qipDYoTK3YUrqLe8uWw7gu3iXbSrn2n";

/// Almost no shares a minute make the upstream's target so hard that few shares travel on, as in a
/// real farm; else the pool ends the channel when its memory of shares is full.
fn pool_config(listen: u16, template: u16, pages: u16) -> String {
    format!(
        "authority_public_key = \"{AUTHORITY_PUBLIC}\"\n\
         authority_secret_key = \"{AUTHORITY_SECRET}\"\n\
         cert_validity_sec = 3600\nlisten_address = \"127.0.0.1:{listen}\"\n\
         coinbase_reward_script = \"addr(tb1qa0sm0hxzj0x25rh8gw5xlzwlsfvvyz8u96w3p8)\"\n\
         server_id = 1\npool_signature = \"perf\"\nshares_per_minute = 0.000001\n\
         share_batch_size = 10\nsupported_extensions = [0x0002]\n\
         monitoring_address = \"127.0.0.1:{pages}\"\nmonitoring_cache_refresh_secs = 60\n\
         [template_provider_type.Sv2Tp]\naddress = \"127.0.0.1:{template}\"\n"
    )
}

fn translator_config(listen: u16, pool: u16, pages: u16) -> String {
    format!(
        "downstream_address = \"127.0.0.1\"\ndownstream_port = {listen}\n\
         max_supported_version = 2\nmin_supported_version = 2\n\
         downstream_extranonce2_size = 4\nverify_payout = false\naggregate_channels = true\n\
         supported_extensions = [0x0002]\nrequired_extensions = []\n\
         monitoring_address = \"127.0.0.1:{pages}\"\nmonitoring_cache_refresh_secs = 60\n\
         [downstream_difficulty_config]\nmin_individual_miner_hashrate = 0.001\n\
         shares_per_minute = 6.0\nenable_vardiff = false\njob_keepalive_interval_secs = 60\n\
         [[upstreams]]\naddress = \"127.0.0.1\"\nport = {pool}\n\
         authority_pubkey = \"{AUTHORITY_PUBLIC}\"\nuser_identity = \"acct\"\n"
    )
}
