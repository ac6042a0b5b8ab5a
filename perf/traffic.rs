//! What one generated miner says and hears, at as little cost as can be: its lines are patched
//! copies, its server's lines are told apart by a few bytes. The shares need no search: the servers
//! under load run at a difficulty so trivial that every hash is a share, so that the generator
//! costs less than what it loads. Each share is a new header; a server that checks duplicates
//! finds none.

use std::io::Write as _;

/// Longest job id kept; longer ones are no server's.
const JOB_ID_BYTES_MAX: usize = 40;

/// What a line from the server was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The answer to subscribe.
    Subscribed,
    /// The answer to authorize.
    Authorized,
    /// A share was answered, with `true` or not.
    Answered {
        /// Whether the answer was `true`.
        accepted: bool,
    },
    /// `mining.notify`.
    Job,
    /// Anything else, such as `mining.set_difficulty`.
    Other,
}

/// One miner as the load generator plays it.
#[derive(Debug, Default)]
pub struct Miner {
    number: u32,
    requests: u32,
    nonce: u32,
    extranonce2_bytes: usize,
    job_id: String,
    ntime: String,
}

/// The id of subscribe; the id of authorize is the next; shares come from 10,000,000 on, so that
/// their lines all have one length.
const SUBSCRIBE_ID: u32 = 1;
const AUTHORIZE_ID: u32 = 2;
const FIRST_SHARE_ID: u32 = 10_000_000;

impl Miner {
    /// A miner with a number of its own, which names its worker.
    #[must_use]
    pub fn new(number: u32) -> Miner {
        Miner { number, extranonce2_bytes: 4, ..Miner::default() }
    }

    /// Whether it has a job to mine on.
    #[must_use]
    pub fn has_job(&self) -> bool {
        !self.job_id.is_empty()
    }

    /// What tells its job from another one: headframe ends an id with eight digits for the second
    /// of the rendering; shorter ids are other servers'.
    #[must_use]
    pub fn job_key(&self) -> &str {
        let digits = self.job_id.len();
        &self.job_id[..if digits > 8 { digits - 8 } else { digits }]
    }

    /// Writes the first request.
    pub fn write_subscribe(&self, out: &mut Vec<u8>) {
        let id = SUBSCRIBE_ID;
        let line =
            format!("{{\"id\":{id},\"method\":\"mining.subscribe\",\"params\":[\"load/1\"]}}\n");
        out.extend_from_slice(line.as_bytes());
    }

    /// Writes the second request.
    pub fn write_authorize(&self, out: &mut Vec<u8>) {
        self.write_authorize_with("x", out);
    }

    /// Writes the second request with a password of its own.
    pub fn write_authorize_with(&self, password: &str, out: &mut Vec<u8>) {
        let (id, number) = (AUTHORIZE_ID, self.number);
        let line = format!(
            "{{\"id\":{id},\"method\":\"mining.authorize\",\
             \"params\":[\"w.{number:07}\",\"{password}\"]}}\n"
        );
        out.extend_from_slice(line.as_bytes());
    }

    /// Writes one more share of the newest job.
    pub fn write_share(&mut self, out: &mut Vec<u8>) {
        let id = FIRST_SHARE_ID + self.requests % 80_000_000;
        self.requests += 1;
        self.nonce = self.nonce.wrapping_add(1);
        let (number, nonce) = (self.number, self.nonce);
        let (job, ntime, digits) = (&self.job_id, &self.ntime, 2 * self.extranonce2_bytes);
        // Writing into a vector cannot fail.
        let _ = writeln!(
            out,
            "{{\"id\":{id},\"method\":\"mining.submit\",\"params\":[\"w.{number:07}\",\"{job}\",\
             \"{number:0digits$x}\",\"{ntime}\",\"{nonce:08x}\"]}}"
        );
    }

    /// Takes one line of the server, without its newline.
    pub fn hear(&mut self, line: &[u8]) -> Heard {
        if contains(line, b"\"mining.notify\"") && contains(line, b"\"params\"") {
            self.take_job(line);
            return Heard::Job;
        }
        if contains(line, b"\"method\"") {
            return Heard::Other;
        }
        match request_id(line) {
            Some(SUBSCRIBE_ID) => {
                self.take_extranonce2_size(line);
                Heard::Subscribed
            }
            Some(AUTHORIZE_ID) => Heard::Authorized,
            Some(_) => Heard::Answered { accepted: contains(line, b"true") },
            None => Heard::Other,
        }
    }

    fn take_job(&mut self, line: &[u8]) {
        let Some(params) = after(line, b"\"params\"") else { return };
        let mut strings = params.split(|byte| *byte == b'"').skip(1).step_by(2);
        let Some(job_id) = strings.next().filter(|id| id.len() <= JOB_ID_BYTES_MAX) else { return };
        // The last three strings of the parameters are version, bits and time.
        let end = params.iter().rposition(|byte| *byte == b']').unwrap_or(params.len());
        let ntime = params[..end].split(|byte| *byte == b'"').rev().nth(1).unwrap_or(b"00000000");
        self.job_id.clear();
        self.job_id.push_str(std::str::from_utf8(job_id).unwrap_or_default());
        self.ntime.clear();
        self.ntime.push_str(std::str::from_utf8(ntime).unwrap_or_default());
    }

    /// The result of subscribe ends with `"extranonce1",SIZE]`.
    fn take_extranonce2_size(&mut self, line: &[u8]) {
        let Some(end) = line.iter().rposition(|byte| *byte == b']') else { return };
        let digits = line[..end].rsplit(|byte| *byte == b',').next().unwrap_or_default();
        let text = std::str::from_utf8(digits).unwrap_or_default().trim();
        self.extranonce2_bytes = text.parse().unwrap_or(4).clamp(1, 16);
    }
}

/// The number after `"id":`, if it is one.
fn request_id(line: &[u8]) -> Option<u32> {
    let rest = after(line, b"\"id\":")?;
    let digits = rest.iter().skip_while(|byte| **byte == b' ');
    let mut id = None;
    for digit in digits.take_while(|byte| byte.is_ascii_digit()) {
        id = Some(id.unwrap_or(0_u32).wrapping_mul(10).wrapping_add(u32::from(digit - b'0')));
    }
    id
}

fn after<'a>(line: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let at = line.windows(word.len()).position(|window| window == word)?;
    Some(&line[at + word.len()..])
}

fn contains(line: &[u8], word: &[u8]) -> bool {
    after(line, word).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hears_both_servers() {
        let mut miner = Miner::new(7);
        let subscribed =
            br#"{"id":1,"result":[[["mining.notify","ab"]],"08000002",4],"error":null}"#;
        assert_eq!(miner.hear(subscribed), Heard::Subscribed);
        assert_eq!(miner.hear(br#"{"id":2,"result":true,"error":null}"#), Heard::Authorized);
        let job = concat!(
            r#"{"id":null,"method":"mining.notify","params":["1f00000002","aa","01","02",["03"],"#,
            r#""20000000","1d00ffff","6560a1b2",true]}"#
        );
        assert_eq!(miner.hear(job.as_bytes()), Heard::Job);
        assert!(miner.has_job());
        let mut out = Vec::new();
        miner.write_share(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains(r#"["w.0000007","1f00000002","00000007","6560a1b2","00000001"]"#),
            "{text}"
        );
        let refused = br#"{"id":10000000,"result":null,"error":[21,"x",null]}"#;
        assert_eq!(miner.hear(refused), Heard::Answered { accepted: false });
        let reordered = br#"{"error":null,"id":10000001,"result":true}"#;
        assert_eq!(miner.hear(reordered), Heard::Answered { accepted: true });
    }
}
