//! The sessions of one shard, by connection.

use crate::reactor::ConnId;
use crate::session::Session;

/// Sessions at the index of their connection; the generation tells an old connection from the one that
/// has its index now.
#[derive(Default)]
pub struct Sessions {
    places: Vec<Option<(ConnId, Box<Session>)>>,
    len: usize,
    /// The one without a socket.
    fed: Option<Box<Session>>,
}

impl Sessions {
    /// Adds the session of a new connection.
    pub fn insert(&mut self, conn: ConnId, session: Session) {
        if conn == ConnId::WITHOUT_SOCKET {
            self.fed = Some(Box::new(session));
            return;
        }
        if self.places.len() <= conn.index() {
            self.places.resize_with(conn.index() + 1, || None);
        }
        let before = self.places[conn.index()].replace((conn, Box::new(session)));
        assert!(before.is_none(), "{conn:?} is opened once");
        self.len += 1;
    }

    /// The session of `conn`, unless that connection is gone.
    #[inline]
    pub fn get(&self, conn: ConnId) -> Option<&Session> {
        match self.places.get(conn.index()) {
            Some(Some((known, session))) if *known == conn => Some(session),
            None if conn == ConnId::WITHOUT_SOCKET => self.fed.as_deref(),
            _ => None,
        }
    }

    /// The session of `conn`, unless that connection is gone.
    #[inline]
    pub fn get_mut(&mut self, conn: ConnId) -> Option<&mut Session> {
        match self.places.get_mut(conn.index()) {
            Some(Some((known, session))) if *known == conn => Some(session),
            None if conn == ConnId::WITHOUT_SOCKET => self.fed.as_deref_mut(),
            _ => None,
        }
    }

    /// Forgets the session of `conn`.
    pub fn remove(&mut self, conn: ConnId) -> Option<Box<Session>> {
        if conn == ConnId::WITHOUT_SOCKET {
            return self.fed.take();
        }
        self.get(conn)?;
        self.len -= 1;
        self.places[conn.index()].take().map(|(_, session)| session)
    }

    /// Number of sessions.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.places.iter_mut().flatten().map(|(_, session)| &mut **session)
    }

    /// All sessions with a socket.
    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &Session)> {
        self.places.iter().flatten().map(|(conn, session)| (*conn, &**session))
    }
}
