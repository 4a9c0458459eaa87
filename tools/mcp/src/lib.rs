//! Answers for agents: the stores of stacks over the Model Context Protocol (MCP).
//!
//! Tools find records, traces, calls, usage and losses, and only read. An agent has little room, so every answer has
//! counts first, then the newest few, and says how to get more: a cursor, a narrower filter, or a whole text in pieces. No
//! answer exceeds its [bound](BYTES_DEFAULT), whatever is stored. Texts of records are redacted again, escaped, and
//! marked as data: a record must not pass for an instruction.
//!
//! Over stdio, for a client that starts the program:
//!
//! ```no_run
//! # use gridctl_telemetry::{Store, StoreOptions, home::default_home};
//! use gridctl_telemetry_mcp::Mcp;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let mcp = Mcp::of_home(default_home()?, None, StoreOptions::for_tools());
//! mcp.serve_stdio(std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Over HTTP at `/mcp` of a [`Server`](gridctl_telemetry_server::Server), behind its guard:
//!
//! ```no_run
//! # use gridctl_telemetry::{Store, StoreOptions, Writer, WriterOptions, home::default_home};
//! use gridctl_telemetry_mcp::Mcp;
//! use gridctl_telemetry_server::{Server, ServerOptions};
//!
//! # fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::open(&default_home()?, "my-stack", StoreOptions::default())?;
//! let (writer, guard) = Writer::start(&store, WriterOptions::default())?;
//! let options = ServerOptions::default().routes(Mcp::of_store(store.clone()).routes());
//! let server = Server::new(store, writer, options)?;
//! # Ok(())
//! # }
//! ```
//!
//! | module | what is in it |
//! |---|---|
//! | `stacks` | the stacks that agents may ask about |
//! | `asked` | a question: its arguments, its deadline, the store it is about |
//! | `answer` | the bound of answers, and texts of records in them |
//! | `schema` | what tools accept and answer, for agents |
//! | `tools` | one file for each tool |
//! | `resources`, `prompt` | stacks and traces by address; how to find out why something failed |
//! | `handler` | the methods of the protocol |
//! | `transport` | stdio and HTTP |

mod answer;
mod asked;
mod handler;
mod prompt;
mod resources;
mod schema;
mod stacks;
mod tools;
mod transport;

pub use answer::{BYTES_DEFAULT, BYTES_MAX, BYTES_MIN};
pub use handler::Mcp;
