//! Where Redis is, by the certificates that the files have now.

use std::sync::Arc;

use common::watched::Watched;

use super::Place;

/// A place whose certificates may be renewed. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Whereabouts(Source);

#[derive(Debug, Clone)]
enum Source {
    Fixed(Arc<Place>),
    Followed(Arc<Watched<Place>>),
}

impl Whereabouts {
    /// The place, for connections that are made now. The same one as before as long as nothing has changed.
    pub fn now(&self) -> Arc<Place> {
        match &self.0 {
            Source::Fixed(place) => Arc::clone(place),
            Source::Followed(watched) => watched.get_full(),
        }
    }
}

impl From<Place> for Whereabouts {
    fn from(place: Place) -> Self {
        Self(Source::Fixed(Arc::new(place)))
    }
}

impl From<Watched<Place>> for Whereabouts {
    fn from(watched: Watched<Place>) -> Self {
        Self(Source::Followed(Arc::new(watched)))
    }
}
