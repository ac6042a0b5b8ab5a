//! Connections that come through a load balancer: the PROXY header in front of the miner's bytes
//! says whose they are. The header's text is `wire`'s; who must send one is `admission`'s.

use wire::proxy_protocol::{ProxyFault, ProxySource, ProxyStep};

use session::Input;

use crate::counters::CloseReason;
use crate::guard::Guard;
use crate::ring::Ring;
use crate::shard::{Hands, Shard};

impl<R: Ring> Shard<R> {
    /// Bytes of a connection whose header is not complete. Its session waits meanwhile, and its
    /// deadline for the first byte is the header's too.
    pub(crate) fn received_header<G: Guard>(
        &mut self,
        slot: u32,
        bytes: &mut [u8],
        hands: &mut Hands<'_, R, G>,
    ) {
        self.counters.receives.add(1);
        self.counters.bytes_received.add(bytes.len() as u64);
        let place = self.slots.at_mut(slot);
        let Some(reader) = place.proxy.as_mut() else {
            return;
        };
        let (used, source) = match reader.feed(bytes) {
            Ok(ProxyStep::NeedMore) => return,
            Ok(ProxyStep::Done { used, source }) => (used, source),
            Err(ProxyFault::NotProxy) => {
                return self.lose(slot, CloseReason::ProxyMissing, hands);
            }
            Err(_) => return self.lose(slot, CloseReason::ProxyMalformed, hands),
        };
        // Who has no address of its own is counted and shown as the load balancer itself.
        let peer = match source {
            ProxySource::Tcp(client) => client.ip().to_canonical(),
            ProxySource::Local | ProxySource::Unknown => place.peer,
        };
        if self.admission.name_source(peer).is_err() {
            return self.lose(slot, CloseReason::PerSource, hands);
        }
        place.peer = peer;
        place.proxy = None;
        let rest = &mut bytes[used..];
        if !rest.is_empty() {
            self.handle(slot, Input::Bytes(rest), hands);
            self.listen(slot, hands);
        }
    }
}
