//! The socket of a daemon. Daemons run on Unix alone; elsewhere there is none to connect to, and a
//! value of this type cannot exist.

#[cfg(unix)]
pub(crate) use std::os::unix::net::UnixStream;

#[cfg(not(unix))]
pub(crate) use self::none::UnixStream;

#[cfg(not(unix))]
mod none {
    use std::io::{self, Read, Write};
    use std::path::Path;
    use std::time::Duration;

    /// A connection that no system without daemons has.
    pub(crate) enum UnixStream {}

    impl UnixStream {
        pub(crate) fn connect(_: impl AsRef<Path>) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) fn set_read_timeout(&self, _: Option<Duration>) -> io::Result<()> {
            match *self {}
        }

        pub(crate) fn set_write_timeout(&self, _: Option<Duration>) -> io::Result<()> {
            match *self {}
        }
    }

    impl Read for UnixStream {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            match *self {}
        }
    }

    impl Write for UnixStream {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            match *self {}
        }

        fn flush(&mut self) -> io::Result<()> {
            match *self {}
        }
    }
}
