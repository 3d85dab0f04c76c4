//! A faulty proxy between a daemon and its server: it delays, drops, duplicates and reorders
//! messages, stops one direction, and cuts connections. A seed decides the faults.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::sleep;

/// A random generator without dependencies, so that a seed always gives the same faults.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[derive(Debug, Default)]
struct Inner {
    target: Mutex<String>,
    /// Messages between two faults, on average; 0 for no faults.
    every: AtomicU64,
    seed: AtomicU64,
    faults: AtomicU64,
    connections: Mutex<Vec<TcpStream>>,
    stop: AtomicBool,
}

/// A running proxy; it forwards connections to the target.
#[derive(Debug)]
pub(crate) struct Proxy {
    inner: Arc<Inner>,
    /// Address at which the proxy listens.
    pub(crate) address: String,
}

impl Proxy {
    pub(crate) fn start(target: &str, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let inner = Arc::new(Inner::default());
        target.clone_into(&mut inner.target.lock().expect("not poisoned"));
        inner.seed.store(seed, Ordering::Release);
        let shared = Arc::clone(&inner);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.stop.load(Ordering::Acquire) {
                    return;
                }
                let target = shared.target.lock().expect("not poisoned").clone();
                // If the server is down, the client's connection is closed as well.
                let Ok(server) = TcpStream::connect(target) else { continue };
                shared.pair(&client, &server);
            }
        });
        Self { inner, address }
    }

    /// Sets the average number of messages between two faults; 0 for no faults.
    pub(crate) fn faults(&self, every: u64) {
        self.inner.every.store(every, Ordering::Release);
    }

    /// Returns the number of faults so far.
    pub(crate) fn count(&self) -> u64 {
        self.inner.faults.load(Ordering::Acquire)
    }

    /// Cuts all connections, which counts as one fault.
    pub(crate) fn cut(&self) {
        self.inner.faults.fetch_add(1, Ordering::AcqRel);
        for stream in self.inner.connections.lock().expect("not poisoned").drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::Release);
        self.cut();
        drop(TcpStream::connect(&self.address));
    }
}

impl Inner {
    fn pair(self: &Arc<Self>, client: &TcpStream, server: &TcpStream) {
        for stream in [client, server] {
            drop(stream.set_nodelay(true));
        }
        let copy = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
        self.connections.lock().expect("not poisoned").extend([copy(client), copy(server)]);
        for (from, to) in [(client, server), (server, client)] {
            let (from, to, inner) = (copy(from), copy(to), Arc::clone(self));
            let seed = self.seed.fetch_add(0x9e37_79b9, Ordering::AcqRel);
            std::thread::spawn(move || inner.pump(from, to, Random(seed)));
        }
    }

    /// Forwards messages in one direction until the connection ends.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream, mut random: Random) {
        let mut held: Option<Vec<u8>> = None;
        let passed = head(&mut from).and_then(|head| to.write_all(&head).ok());
        let mut alive = passed.is_some();
        while alive && let Some(frame) = frame(&mut from) {
            let every = self.every.load(Ordering::Acquire);
            let fault = if every > 0 && random.below(every) == 0 {
                self.faults.fetch_add(1, Ordering::AcqRel);
                random.below(6)
            } else {
                99
            };
            alive = match fault {
                // Dropped.
                0 => true,
                // Duplicated.
                1 => to.write_all(&frame).and_then(|()| to.write_all(&frame)).is_ok(),
                // Held back until after the next message.
                2 if held.is_none() => {
                    held = Some(frame);
                    continue;
                }
                // Delayed.
                3 => {
                    sleep(Duration::from_millis(random.below(400)));
                    to.write_all(&frame).is_ok()
                }
                // This direction stops silently: neither side is notified.
                4 => {
                    while self::frame(&mut from).is_some() {}
                    false
                }
                // Cut in the middle of a message.
                5 => {
                    let half = frame.len() / 2;
                    drop(to.write_all(&frame[..half]));
                    false
                }
                _ => to.write_all(&frame).is_ok(),
            };
            if let Some(late) = held.take() {
                alive &= to.write_all(&late).is_ok();
            }
        }
        drop(from.shutdown(Shutdown::Both));
        drop(to.shutdown(Shutdown::Both));
    }
}

/// Reads the head of an HTTP message.
fn head(from: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        from.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    Some(head)
}

/// Reads one WebSocket frame without decoding it.
fn frame(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut frame = vec![0; 2];
    from.read_exact(&mut frame).ok()?;
    let masked = frame[1] & 0x80 != 0;
    let more = match frame[1] & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mut length = vec![0; more];
    from.read_exact(&mut length).ok()?;
    let size = match more {
        0 => u64::from(frame[1] & 0x7f),
        _ => length.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)),
    };
    let rest = usize::try_from(size).ok()? + if masked { 4 } else { 0 };
    let mut body = vec![0; rest];
    from.read_exact(&mut body).ok()?;
    frame.extend(length);
    frame.extend(body);
    Some(frame)
}
