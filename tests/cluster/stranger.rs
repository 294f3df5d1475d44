//! A server of the test's own in the place of an engine: for what cannot be had here, or is no engine at all.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use greygate::cluster::Server;

/// A server on loopback, until it is dropped where that is the same.
pub(crate) struct Stranger {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stranger {
    /// Has each caller served in a thread of its own.
    pub(crate) fn start(
        serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let (calls, is_over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let serve = Arc::new(serve);
        let thread = thread::spawn({
            let (calls, is_over) = (Arc::clone(&calls), Arc::clone(&is_over));
            move || {
                for caller in listener.incoming().flatten() {
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    calls.fetch_add(1, Ordering::SeqCst);
                    let serve = Arc::clone(&serve);
                    // A caller who has gone is no error.
                    thread::spawn(move || drop(serve(caller)));
                }
            }
        });
        Self {
            address,
            calls,
            is_over,
            thread: Some(thread),
        }
    }

    /// One that notes all that is said to it, and hangs up.
    pub(crate) fn listening(heard: Arc<Mutex<Vec<Vec<u8>>>>) -> Self {
        Self::start(move |mut caller| {
            let mut said = vec![0; 4_096];
            let length = caller.read(&mut said)?;
            said.truncate(length);
            heard.lock().expect("nobody panics").push(said);
            Ok(())
        })
    }

    /// How a configuration names it.
    pub(crate) fn server(&self) -> Server {
        Server {
            host: self.address.ip().to_string(),
            port: self.address.port(),
        }
    }

    /// How often it was called.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Wakes it.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers who asks what it is as Redis 6.0 does, and knows nothing else.
pub(crate) fn speaks_as_redis_6(mut caller: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(caller.try_clone()?).lines();
    while let Some(word) = first_word(&mut lines)? {
        let answer = match word.to_ascii_uppercase().as_str() {
            "ROLE" => "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n",
            "INFO" => "$32\r\n# Server\r\nredis_version:6.0.16\r\n\r\n",
            _ => "-ERR unknown command\r\n",
        };
        caller.write_all(answer.as_bytes())?;
    }
    Ok(())
}

/// Reads a command, an array of strings, and gives its first; [`None`] once the caller has gone.
fn first_word(lines: &mut impl Iterator<Item = io::Result<String>>) -> io::Result<Option<String>> {
    let Some(head) = lines.next().transpose()? else {
        return Ok(None);
    };
    let count = head.strip_prefix('*').and_then(|it| it.parse().ok());
    let count: usize = count.ok_or_else(|| io::Error::other(head))?;
    let mut words = Vec::new();
    for _ in 0..count {
        let (_length, word) = (lines.next().transpose()?, lines.next().transpose()?);
        words.extend(word);
    }
    Ok(words.into_iter().next())
}
