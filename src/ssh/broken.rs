//! Who broke a way to a target: the first of its connections that went, since
//! those behind it fall with it.

use std::sync::{Arc, OnceLock};

use crate::kernel::id::TargetName;

/// Of one way. Cheap to clone; the first word counts.
#[derive(Clone, Default, Debug)]
pub struct Broken(Arc<OnceLock<Option<TargetName>>>);

impl Broken {
    /// The connection to this bastion went, or never came about.
    pub fn by_bastion(&self, name: &TargetName) {
        self.0.get_or_init(|| Some(name.clone()));
    }

    /// The target's own connection went.
    pub fn by_target(&self) {
        self.0.get_or_init(|| None);
    }

    /// The bastion that did it, if one did.
    pub fn bastion(&self) -> Option<&TargetName> {
        self.0.get()?.as_ref()
    }

    /// For the user and the recording.
    pub fn sentence(&self) -> String {
        match self.bastion() {
            Some(name) => format!("the connection to the bastion {name}, on the way to the target, broke"),
            None => "the connection to the target broke".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_went_is_named() {
        let (one, other) = ("outer".parse().unwrap(), "inner".parse().unwrap());
        let broken = Broken::default();
        assert_eq!(broken.bastion(), None);
        broken.by_bastion(&one);
        broken.by_bastion(&other);
        broken.by_target();
        assert_eq!(broken.bastion(), Some(&one));
        assert!(broken.sentence().contains("bastion outer"));
        let broken = Broken::default();
        broken.by_target();
        broken.by_bastion(&one);
        assert_eq!(broken.bastion(), None);
        assert_eq!(broken.sentence(), "the connection to the target broke");
    }
}
