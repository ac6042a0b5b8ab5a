//! A miner of one connection in a test's hands: it says hello, hears what it is told, and submits
//! what the test wants on the job that the test wants.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::LIMIT;

pub(crate) struct Rig {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
    name: String,
    /// The newest that it has heard of.
    job: Value,
}

impl Rig {
    /// Connects, subscribes and authorizes, and awaits no answer.
    pub(crate) fn connect(stratum: &str, name: &str, password: &str) -> Rig {
        let stream = TcpStream::connect(stratum).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
        let lines = BufReader::new(stream.try_clone().expect("a second handle"));
        let mut rig = Rig { stream, lines, name: name.to_owned(), job: Value::Null };
        rig.say(&json!({"id": 1, "method": "mining.subscribe", "params": []}));
        rig.say(&json!({"id": 2, "method": "mining.authorize", "params": [name, password]}));
        rig
    }

    fn say(&mut self, message: &Value) {
        self.stream.write_all(format!("{message}\n").as_bytes()).expect("sent");
    }

    /// The next line that is wanted.
    pub(crate) fn hear(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).expect("a line") > 0, "it goes on");
            let message: Value = serde_json::from_str(&line).expect("JSON");
            if message["method"] == "mining.notify" {
                self.job = message.clone();
            }
            if wanted(&message) {
                return message;
            }
        }
    }

    /// The newest job that it has heard of, or the first.
    pub(crate) fn job(&mut self) -> Value {
        if self.job.is_null() {
            self.hear(|message| message["method"] == "mining.notify");
        }
        self.job.clone()
    }

    /// Submits a share on that job, and gives the answer.
    pub(crate) fn submit(&mut self, job: &Value, id: u32, nonce: u32) -> Value {
        let (job, ntime) = (&job["params"][0], &job["params"][7]);
        let params = json!([self.name, job, "00000000", ntime, format!("{nonce:08x}")]);
        self.say(&json!({"id": id, "method": "mining.submit", "params": params}));
        self.hear(|message| message["id"] == id)
    }
}
