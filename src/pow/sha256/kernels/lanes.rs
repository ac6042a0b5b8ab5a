//! One algorithm, many messages side by side: lane n of every register belongs to message n.
//!
//! A macro and not a generic function, because every function of a kernel must carry the
//! kernel's target features for its instructions to be inlined. The file that expands it gives
//! `V` (a register), its `LANES` and `splat`, `add`, `xor3`, `ch`, `maj`, `rotate`, `shift`,
//! `columns`, `blocks`, `digests`, `numbers`.

/// Eight rounds; after them the names stand where they stood.
macro_rules! eight_rounds {
    ($s:ident, $wk:expr) => {{
        let wk = $wk;
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = $s;
        (d, h) = round(a, b, c, d, e, f, g, h, wk(0));
        (c, g) = round(h, a, b, c, d, e, f, g, wk(1));
        (b, f) = round(g, h, a, b, c, d, e, f, wk(2));
        (a, e) = round(f, g, h, a, b, c, d, e, wk(3));
        (h, d) = round(e, f, g, h, a, b, c, d, wk(4));
        (g, c) = round(d, e, f, g, h, a, b, c, wk(5));
        (f, b) = round(c, d, e, f, g, h, a, b, wk(6));
        (e, a) = round(b, c, d, e, f, g, h, a, wk(7));
        $s = [a, b, c, d, e, f, g, h];
    }};
}

/// The rounds and what is made of them, for one kind of register.
macro_rules! lanes {
    ($features:literal) => {
        /// One round (FIPS 180-4, 6.2.2): the two words of the state that change.
        #[inline]
        #[target_feature(enable = $features)]
        #[allow(clippy::too_many_arguments)]
        fn round(a: V, b: V, c: V, d: V, e: V, f: V, g: V, h: V, wk: V) -> (V, V) {
            let big_1 = xor3(rotate::<6>(e), rotate::<11>(e), rotate::<25>(e));
            let big_0 = xor3(rotate::<2>(a), rotate::<13>(a), rotate::<22>(a));
            let t1 = add(add(h, wk), add(ch(e, f, g), big_1));
            (add(d, t1), add(t1, add(big_0, maj(a, b, c))))
        }

        /// The message schedule's next word, sixteen on.
        #[inline]
        #[target_feature(enable = $features)]
        fn next(w0: V, w1: V, w9: V, w14: V) -> V {
            let small_0 = xor3(rotate::<7>(w1), rotate::<18>(w1), shift::<3>(w1));
            let small_1 = xor3(rotate::<17>(w14), rotate::<19>(w14), shift::<10>(w14));
            add(add(w0, small_0), add(w9, small_1))
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn sixteen_next(w: &mut [V; 16]) {
            for t in 0..16 {
                w[t] = next(w[t], w[(t + 1) & 15], w[(t + 9) & 15], w[(t + 14) & 15]);
            }
        }

        /// The compression function over one block per lane.
        #[inline]
        #[target_feature(enable = $features)]
        fn compress(state: [V; 8], mut w: [V; 16]) -> [V; 8] {
            let mut s = state;
            let mut t = 0;
            while t < 64 {
                if t > 0 {
                    sixteen_next(&mut w);
                }
                eight_rounds!(s, |r: usize| add(w[r], splat(K.0[t + r])));
                eight_rounds!(s, |r: usize| add(w[8 + r], splat(K.0[t + 8 + r])));
                t += 16;
            }
            sum(state, s)
        }

        /// The compression function where all lanes have the same block, expanded beforehand.
        #[inline]
        #[target_feature(enable = $features)]
        fn compress_same(state: [V; 8], schedule: &Schedule) -> [V; 8] {
            let mut s = state;
            let mut t = 0;
            while t < 64 {
                eight_rounds!(s, |r: usize| splat(schedule.0[t + r]));
                t += 8;
            }
            sum(state, s)
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn sum(mut state: [V; 8], s: [V; 8]) -> [V; 8] {
            for (to, from) in state.iter_mut().zip(s) {
                *to = add(*to, from);
            }
            state
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn initial() -> [V; 8] {
            let mut state = [splat(0); 8];
            for (to, word) in state.iter_mut().zip(IV) {
                *to = splat(word);
            }
            state
        }

        /// SHA-256 of a digest: the second half of every double hash.
        #[inline]
        #[target_feature(enable = $features)]
        fn second(digest: [V; 8]) -> [V; 8] {
            let [a, b, c, d, e, f, g, h] = digest;
            let z = splat(0);
            let length = splat(256);
            compress(initial(), [a, b, c, d, e, f, g, h, splat(END), z, z, z, z, z, z, length])
        }

        /// Double SHA-256 of 64 bytes, given as columns.
        #[inline]
        #[target_feature(enable = $features)]
        fn node(words: [V; 16]) -> [V; 8] {
            second(compress_same(compress(initial(), words), &NODE_PADDING))
        }

        /// Double SHA-256 of one merkle node per lane.
        #[target_feature(enable = $features)]
        pub(crate) fn hash_nodes(batch: &[&[u8; 64]; LANES], out: &mut [Hash256; LANES]) {
            digests(node(blocks(batch)), out);
        }

        /// The header hash of one share per lane. All works have the same shape.
        #[target_feature(enable = $features)]
        pub(crate) fn hash_shares(batch: &[&(&Work, Share); LANES], out: &mut [Hash256; LANES]) {
            let mut digest = coinbase(batch);
            for level in 0..batch[0].0.shape().depth {
                let sibling = columns(&batch.map(|(work, _)| work.path_words(level)));
                let [a, b, c, d, e, f, g, h] = digest;
                let [i, j, k, l, m, n, o, p] = sibling;
                digest = node([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]);
            }
            digests(header(batch, digest), out);
        }

        /// The hash of one header with one nonce per lane. All lanes have the same header.
        #[target_feature(enable = $features)]
        pub(crate) fn hash_nonces(
            batch: &[&(&HeaderStart, u32); LANES],
            out: &mut [Hash256; LANES],
        ) {
            let start = batch[0].0;
            let mut state = [splat(0); 8];
            for (to, word) in state.iter_mut().zip(start.midstate) {
                *to = splat(word);
            }
            let [root, ntime, bits] = start.tail;
            let [root, ntime, bits] = [splat(root), splat(ntime), splat(bits)];
            let nonce = numbers(&batch.map(|(_, nonce)| nonce.swap_bytes()));
            let (z, length) = (splat(0), splat(640));
            let tail = [root, ntime, bits, nonce, splat(END), z, z, z, z, z, z, z, z, z, z, length];
            digests(second(compress(state, tail)), out);
        }

        /// The coinbases' txids as columns.
        #[inline]
        #[target_feature(enable = $features)]
        fn coinbase(batch: &[&(&Work, Share); LANES]) -> [V; 8] {
            let shape = batch[0].0.shape();
            let rolled = batch.map(|(work, share)| work.rolled_blocks(share));
            let mut state = columns(&batch.map(|(work, _)| work.midstate()));
            for place in 0..shape.rolled {
                let mut rows = [&rolled[0][0]; LANES];
                for (row, rolled) in rows.iter_mut().zip(&rolled) {
                    *row = &rolled[place];
                }
                state = compress(state, blocks(&rows));
            }
            let same = batch.iter().all(|(work, _)| core::ptr::eq(*work, batch[0].0));
            for place in 0..shape.fixed {
                state = if same {
                    compress_same(state, batch[0].0.fixed_schedule(place))
                } else {
                    compress(state, blocks(&batch.map(|(work, _)| work.fixed_block(place))))
                };
            }
            second(state)
        }

        /// The headers' hashes as columns.
        #[inline]
        #[target_feature(enable = $features)]
        fn header(batch: &[&(&Work, Share); LANES], root: [V; 8]) -> [V; 8] {
            let version = numbers(&batch.map(|(_, share)| share.version.swap_bytes()));
            let ntime = numbers(&batch.map(|(_, share)| share.ntime.swap_bytes()));
            let nonce = numbers(&batch.map(|(_, share)| share.nonce.swap_bytes()));
            let bits = numbers(&batch.map(|(work, _)| work.bits().swap_bytes()));
            let [a, b, c, d, e, f, g, h] = columns(&batch.map(|(work, _)| work.prev_words()));
            let [i, j, k, l, m, n, o, last] = root;
            let first = [version, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o];
            let (z, length) = (splat(0), splat(640));
            let tail = [last, ntime, bits, nonce, splat(END), z, z, z, z, z, z, z, z, z, z, length];
            second(compress(compress(initial(), first), tail))
        }
    };
}

pub(super) use {eight_rounds, lanes};
