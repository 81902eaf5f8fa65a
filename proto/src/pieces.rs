//! Long messages of agents, in pieces.
//!
//! A gRPC stream keeps room for twice the longest message that came on it for as long as it stands. A controller has a
//! thousand of them, and hears of each node in messages of ten thousand bytes. So an agent cuts what is long, if the
//! controller says that it takes pieces.

use prost::Message as _;

use crate::agent::{AgentMessage, Piece, agent_message::Message};

/// Bytes of a message, or of a piece of one.
pub const PIECE: usize = 1024;

/// Why what an agent sends cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum BadPiece {
    /// There is no end to it.
    #[error("failed to put a message together: it has more than {0} bytes")]
    TooLong(usize),
    /// There is nothing in a piece, and more are to come.
    #[error("failed to put a message together: a piece of it is empty")]
    Empty,
    /// Another message came before its last piece.
    #[error("failed to put a message together: another one came before its last piece")]
    Torn,
    /// It is no message.
    #[error("failed to read what was sent in pieces")]
    Unreadable(#[source] prost::DecodeError),
}

/// Cuts a message that is longer than [`PIECE`].
pub fn cut(message: AgentMessage) -> Vec<AgentMessage> {
    if message.encoded_len() <= PIECE {
        return vec![message];
    }
    let bytes = message.encode_to_vec();
    let mut pieces = bytes.chunks(PIECE).peekable();
    let mut all = Vec::with_capacity(pieces.len());
    while let Some(bytes) = pieces.next() {
        let piece = Piece {
            bytes: bytes.to_vec(),
            last: pieces.peek().is_none(),
        };
        all.push(AgentMessage {
            message: Some(Message::Piece(piece)),
        });
    }
    all
}

/// What came of a message so far.
#[derive(Debug)]
pub struct Pieces {
    bytes: Vec<u8>,
    most: usize,
}

impl Pieces {
    /// Nothing came yet; no message may have more bytes than this.
    pub fn new(most: usize) -> Self {
        Self {
            bytes: Vec::new(),
            most,
        }
    }

    /// Something came; what is whole now, if anything is.
    ///
    /// # Errors
    /// [`BadPiece`].
    pub fn put(&mut self, message: AgentMessage) -> Result<Option<Whole>, BadPiece> {
        let Some(Message::Piece(piece)) = message.message else {
            return if self.bytes.is_empty() {
                Ok(Some(Whole::Message(message)))
            } else {
                Err(BadPiece::Torn)
            };
        };
        if piece.bytes.is_empty() && !piece.last {
            return Err(BadPiece::Empty);
        }
        if self.bytes.len() + piece.bytes.len() > self.most {
            return Err(BadPiece::TooLong(self.most));
        }
        self.bytes.extend_from_slice(&piece.bytes);
        if !piece.last {
            return Ok(None);
        }
        Ok(Some(Whole::Bytes(std::mem::take(&mut self.bytes))))
    }
}

/// A message that came.
#[derive(Debug)]
pub enum Whole {
    /// In one.
    Message(AgentMessage),
    /// In pieces: a long one, which takes up several times as much once it is read.
    Bytes(Vec<u8>),
}

impl Whole {
    /// The message.
    ///
    /// # Errors
    /// [`BadPiece::Unreadable`].
    pub fn read(self) -> Result<AgentMessage, BadPiece> {
        match self {
            Self::Message(message) => Ok(message),
            Self::Bytes(bytes) => {
                AgentMessage::decode(bytes.as_slice()).map_err(BadPiece::Unreadable)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::{PlanProgress, Snapshot};

    fn snapshot(problems: usize) -> AgentMessage {
        let problems = (0..problems).map(|n| format!("problem {n}")).collect();
        AgentMessage {
            message: Some(Message::Snapshot(Snapshot {
                problems,
                ..Snapshot::default()
            })),
        }
    }

    #[test]
    fn what_is_cut_comes_whole_and_short_messages_are_not_cut() {
        let mut pieces = Pieces::new(1 << 20);
        for problems in [0, 1, 100, 10_000] {
            let message = snapshot(problems);
            let cut = cut(message.clone());
            assert!(cut.iter().all(|piece| piece.encoded_len() < PIECE + 16));
            assert_eq!(cut.len() > 1, message.encoded_len() > PIECE);
            let mut whole = Vec::new();
            for piece in cut {
                let put = pieces.put(piece).unwrap();
                whole.extend(put.map(|whole| whole.read().unwrap()));
            }
            assert_eq!(whole, [message]);
        }
    }

    #[test]
    fn a_message_without_end_or_with_another_one_inside_is_refused() {
        let mut pieces = Pieces::new(2000);
        let refused = cut(snapshot(1000))
            .into_iter()
            .find_map(|piece| pieces.put(piece).err());
        assert!(matches!(refused, Some(BadPiece::TooLong(2000))));
        let mut pieces = Pieces::new(1 << 20);
        let first = cut(snapshot(1000)).swap_remove(0);
        assert!(pieces.put(first).unwrap().is_none());
        let other = AgentMessage {
            message: Some(Message::Progress(PlanProgress::default())),
        };
        assert!(matches!(pieces.put(other), Err(BadPiece::Torn)));
    }

    #[test]
    fn an_empty_piece_is_refused() {
        let piece = AgentMessage {
            message: Some(Message::Piece(Piece::default())),
        };
        assert!(matches!(
            Pieces::new(1 << 20).put(piece),
            Err(BadPiece::Empty)
        ));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let piece = Piece {
            bytes: vec![0xff; 8],
            last: true,
        };
        let piece = AgentMessage {
            message: Some(Message::Piece(piece)),
        };
        let whole = Pieces::new(1 << 20).put(piece).unwrap().unwrap();
        let refused = whole.read();
        assert!(matches!(refused, Err(BadPiece::Unreadable(_))));
    }
}
