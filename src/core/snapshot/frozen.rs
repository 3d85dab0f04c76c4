//! How a value of the live state becomes a frozen one, without a copy, and back.
//!
//! The frozen form borrows from the live state, so that a snapshot is encoded without a copy of
//! the state. Maps are converted entry by entry while they are encoded.

use std::borrow::{Borrow, Cow};
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::empty_is_none::non_empty;
use crate::id::{Seq, Time};

/// A frozen form of a live type. Both directions together change nothing.
pub trait Frozen<'a>: Sized {
    /// The live type.
    type Live: Clone + 'a;

    /// Returns the frozen form, which borrows from the live value.
    fn freeze(live: &'a Self::Live) -> Self;

    /// Returns the live value.
    fn thaw(self) -> Self::Live;
}

/// Implements [`Frozen`] for types whose encoding is a part of the log's format.
macro_rules! plain {
    ($($plain:ty),*) => {
        $(impl<'a> Frozen<'a> for $plain {
            type Live = Self;

            fn freeze(live: &'a Self) -> Self {
                *live
            }

            fn thaw(self) -> Self {
                self
            }
        })*
    };
}
plain!(bool, u32, u64, i32, Seq, Time);

impl<'a, B: ToOwned<Owned: Clone> + ?Sized> Frozen<'a> for Cow<'a, B> {
    type Live = B::Owned;

    fn freeze(live: &'a B::Owned) -> Self {
        Cow::Borrowed(live.borrow())
    }

    fn thaw(self) -> B::Owned {
        self.into_owned()
    }
}

impl<'a, F: Frozen<'a>> Frozen<'a> for Option<F> {
    type Live = Option<F::Live>;

    fn freeze(live: &'a Self::Live) -> Self {
        live.as_ref().map(F::freeze)
    }

    fn thaw(self) -> Self::Live {
        self.map(F::thaw)
    }
}

impl<'a, F: Frozen<'a>> Frozen<'a> for Vec<F> {
    type Live = Vec<F::Live>;

    fn freeze(live: &'a Self::Live) -> Self {
        live.iter().map(F::freeze).collect()
    }

    fn thaw(self) -> Self::Live {
        self.into_iter().map(F::thaw).collect()
    }
}

impl<'a, A: Frozen<'a>, B: Frozen<'a>> Frozen<'a> for (A, B) {
    type Live = (A::Live, B::Live);

    fn freeze(live: &'a Self::Live) -> Self {
        (A::freeze(&live.0), B::freeze(&live.1))
    }

    fn thaw(self) -> Self::Live {
        (self.0.thaw(), self.1.thaw())
    }
}

/// A value that copies of the live state share. It is boxed, so that the memory of one that was
/// read is free for the next as soon as it is thawed.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Shared<F>(Box<F>);

impl<F> From<F> for Shared<F> {
    fn from(frozen: F) -> Self {
        Self(Box::new(frozen))
    }
}

impl<'a, F: Frozen<'a>> Frozen<'a> for Shared<F> {
    type Live = Arc<F::Live>;

    fn freeze(live: &'a Self::Live) -> Self {
        F::freeze(live).into()
    }

    fn thaw(self) -> Self::Live {
        Arc::new(self.0.thaw())
    }
}

/// A text or path that is empty for none.
pub(super) struct OrEmpty<'a, T: Clone>(Option<Cow<'a, T>>);

impl<'a, T: Clone + 'a> Frozen<'a> for OrEmpty<'a, T> {
    type Live = Option<T>;

    fn freeze(live: &'a Option<T>) -> Self {
        Self(live.as_ref().map(Cow::Borrowed))
    }

    fn thaw(self) -> Option<T> {
        self.0.map(Cow::into_owned)
    }
}

impl<T: Clone + Default + Serialize> Serialize for OrEmpty<'_, T> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(value) => value.serialize(s),
            None => T::default().serialize(s),
        }
    }
}

impl<'de, T> Deserialize<'de> for OrEmpty<'_, T>
where
    T: Clone + Default + PartialEq + Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        T::deserialize(d).map(|value| Self(non_empty(value).map(Cow::Owned)))
    }
}

/// A map whose values are frozen while they are encoded, so that no second map is built.
pub(super) enum Entries<'a, K, F: Frozen<'a>> {
    /// A map of the live state.
    Borrowed(&'a BTreeMap<K, F::Live>),
    /// A map that was read.
    Owned(BTreeMap<K, F>),
}

impl<'a, K: Ord + Clone + 'a, F: Frozen<'a>> Frozen<'a> for Entries<'a, K, F> {
    type Live = BTreeMap<K, F::Live>;

    fn freeze(live: &'a Self::Live) -> Self {
        Self::Borrowed(live)
    }

    fn thaw(self) -> Self::Live {
        match self {
            Self::Borrowed(live) => live.clone(),
            Self::Owned(map) => map.into_iter().map(|(key, value)| (key, value.thaw())).collect(),
        }
    }
}

impl<'a, K: Serialize, F: Frozen<'a> + Serialize> Serialize for Entries<'a, K, F> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Borrowed(live) => s.collect_map(live.iter().map(|(k, v)| (k, F::freeze(v)))),
            Self::Owned(map) => s.collect_map(map),
        }
    }
}

impl<'de, 'a, K, F> Deserialize<'de> for Entries<'a, K, F>
where
    K: Ord + Deserialize<'de>,
    F: Frozen<'a> + Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(d).map(Self::Owned)
    }
}

/// Declares frozen structs, each with the conversion from and to the live struct whose fields have
/// the same names. The conversion names every field, so a field that is added to the live struct
/// does not compile until the frozen form of it is decided.
macro_rules! frozen_structs {
    ($($(#[$doc:meta])* $vis:vis struct $name:ident $(<$life:lifetime>)? of $live:path {
        $($field:ident: $type:ty,)*
    })*) => {
        $(
            $(#[$doc])*
            #[derive(serde::Serialize, serde::Deserialize)]
            $vis struct $name $(<$life>)? {
                $(pub(in crate::snapshot) $field: $type,)*
            }

            impl<'a> $crate::snapshot::Frozen<'a> for $name $(<$life>)? {
                type Live = $live;

                fn freeze(live: &'a $live) -> Self {
                    let $live { $($field),* } = live;
                    Self { $($field: $crate::snapshot::Frozen::freeze($field)),* }
                }

                fn thaw(self) -> $live {
                    let Self { $($field),* } = self;
                    $live { $($field: $crate::snapshot::Frozen::thaw($field)),* }
                }
            }
        )*
    };
}

/// Declares frozen enums without data, each with the conversion from and to the live one. They are
/// stored by position, so the order of the variants is frozen too.
macro_rules! frozen_enums {
    ($($(#[$doc:meta])* enum $name:ident of $live:ty { $($variant:ident),* $(,)? })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
            pub(in crate::snapshot) enum $name { $($variant),* }

            impl<'a> $crate::snapshot::Frozen<'a> for $name {
                type Live = $live;

                fn freeze(live: &'a $live) -> Self {
                    match live { $(<$live>::$variant => Self::$variant),* }
                }

                fn thaw(self) -> $live {
                    match self { $(Self::$variant => <$live>::$variant),* }
                }
            }
        )*
    };
}

/// Carries fields of the same names over to the struct of the next version.
macro_rules! carried {
    ($old:ident: $($field:ident)* => $new:path { $($own:ident: $value:expr),* }) => {
        $new { $($field: $old.$field,)* $($own: $value),* }
    };
}

pub(super) use {carried, frozen_enums, frozen_structs};
