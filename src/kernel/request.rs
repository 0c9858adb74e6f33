//! Everything a client can ask inside a session, closed, parsed once.

/// Longest command of an exec request, in bytes (1 MiB packets are refused by the transport anyway).
pub const EXEC_BYTES_MAX: usize = 128 * 1024;
/// Longest name of an environment variable, in bytes.
pub const ENV_NAME_BYTES_MAX: usize = 128;
/// Longest environment value, in bytes.
pub const ENV_VALUE_BYTES_MAX: usize = 4 * 1024;
/// Most environment variables on one channel.
pub const ENV_COUNT_MAX: usize = 64;
/// Longest host of a forward, in bytes (RFC 1035 section 2.3.4, with room for a zone).
pub const FORWARD_HOST_BYTES_MAX: usize = 300;
/// Longest path of a forwarded socket, in bytes.
pub const FORWARD_PATH_BYTES_MAX: usize = 1024;
/// Highest port of TCP.
pub const PORT_MAX: u32 = 65_535;
/// Largest terminal that is passed on, in columns or rows.
pub const TERMINAL_CELLS_MAX: u32 = 4096;

/// One thing asked for. Policy is asked for each of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// To reach the destination of the grant at all.
    Connect,
    /// A further session channel.
    Channel,
    Pty,
    Env {
        name: String,
        /// Length of the value, in bytes.
        value_bytes: usize,
    },
    Shell,
    Exec {
        command: Vec<u8>,
    },
    Subsystem {
        name: String,
    },
    /// To do something to a file of the target, over a protocol that is followed.
    Transfer(Transfer),
    /// To run one line of a terminal.
    Command(Line),
    WindowChange,
    Signal {
        name: String,
    },
    /// `direct-tcpip` (ssh -L, -D): the target dials host and port.
    DirectTcpip {
        host: String,
        port: u32,
    },
    /// `tcpip-forward` (ssh -R).
    TcpipForward {
        host: String,
        port: u32,
    },
    DirectStreamlocal {
        path: String,
    },
    StreamlocalForward {
        path: String,
    },
    Agent,
    X11,
    /// A channel type or request that no client should send to a server.
    Unknown {
        kind: String,
    },
}

/// One thing done to a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transfer {
    /// `upload`, `download`, or `change` for whatever moves no bytes.
    pub direction: &'static str,
    /// Such as `rename`.
    pub what: &'static str,
    /// As the client wrote them; what is no text is replaced.
    pub path: String,
    pub other: String,
    /// Both are text that starts at the root and goes nowhere but down, so that
    /// their text can be held against a rule.
    pub plain: bool,
}

/// One line of a terminal, as far as it could be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// As it stood on the screen; lines of one command are joined by `\n`.
    pub text: String,
    /// Who reads it: a word such as `shell`.
    pub place: &'static str,
    /// It could not be read for certain.
    pub undecided: bool,
}

impl Request {
    /// The policy action's name.
    pub fn action(&self) -> &'static str {
        match self {
            Request::Connect => "connect",
            Request::Channel => "channel",
            Request::Pty => "pty",
            Request::Env { .. } => "env",
            Request::Shell => "shell",
            Request::Exec { .. } => "exec",
            Request::Subsystem { .. } => "subsystem",
            Request::Transfer(_) => "transfer",
            Request::Command(_) => "command",
            Request::WindowChange => "window-change",
            Request::Signal { .. } => "signal",
            Request::DirectTcpip { .. } | Request::DirectStreamlocal { .. } => "forward",
            Request::TcpipForward { .. } | Request::StreamlocalForward { .. } => "remote-forward",
            Request::Agent => "agent",
            Request::X11 => "x11",
            Request::Unknown { .. } => "unknown",
        }
    }
}

/// Brings a terminal size into the range that is passed on and recorded; 0
/// columns or rows mean "unknown" to a client and become the usual 80x24.
pub fn clamp_terminal(cols: u32, rows: u32) -> (u32, u32) {
    let clamp = |cells: u32, usual: u32| match cells {
        0 => usual,
        n => n.min(TERMINAL_CELLS_MAX),
    };
    (clamp(cols, 80), clamp(rows, 24))
}
