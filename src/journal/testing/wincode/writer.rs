//! Writes the values of serde with `wincode`. The order of fields is serde's; every byte is of
//! `wincode`: integers, lengths, texts, the tags of options and enums.

use serde::{Serialize, ser};
use wincode::SchemaWrite;
use wincode::config::DefaultConfig;
use wincode::len::{BincodeLen, SeqLen};

use crate::testing::wincode::failed::{Failed, failed};

/// Writes what serde says of a value.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    fn put<T: SchemaWrite<DefaultConfig, Src = T> + ?Sized>(
        &mut self,
        v: &T,
    ) -> Result<(), Failed> {
        wincode::serialize_into(&mut self.0, v).map_err(failed)
    }

    fn put_len(&mut self, length: Option<usize>) -> Result<&mut Self, Failed> {
        let length = length.ok_or_else(|| failed("a sequence without a length"))?;
        <BincodeLen as SeqLen<DefaultConfig>>::write(&mut self.0, length).map_err(failed)?;
        Ok(self)
    }

    fn put_variant(&mut self, index: u32) -> Result<&mut Self, Failed> {
        self.put(&index)?;
        Ok(self)
    }
}

macro_rules! put {
    ($($method:ident($type:ty);)*) => {
        $(fn $method(self, v: $type) -> Result<(), Failed> { self.put(&v) })*
    };
}

macro_rules! unused {
    ($($method:ident($type:ty);)*) => {
        $(fn $method(self, _: $type) -> Result<(), Failed> {
            Err(failed(concat!(stringify!($type), " is in no event")))
        })*
    };
}

impl<'w> ser::Serializer for &'w mut Writer {
    type Ok = ();
    type Error = Failed;
    type SerializeSeq = Parts<'w>;
    type SerializeTuple = Parts<'w>;
    type SerializeTupleStruct = Parts<'w>;
    type SerializeTupleVariant = Parts<'w>;
    type SerializeMap = Parts<'w>;
    type SerializeStruct = Parts<'w>;
    type SerializeStructVariant = Parts<'w>;

    put! {
        serialize_bool(bool);
        serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64);
        serialize_u8(u8); serialize_u16(u16); serialize_u32(u32); serialize_u64(u64);
    }

    unused! { serialize_f32(f32); serialize_f64(f64); serialize_char(char); }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_str(self, v: &str) -> Result<(), Failed> {
        self.put(v)
    }

    fn serialize_bytes(self, v: &[u8]) -> Result<(), Failed> {
        self.put(&v.to_vec())
    }

    fn serialize_none(self) -> Result<(), Failed> {
        self.put(&None::<()>)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, v: &T) -> Result<(), Failed> {
        self.put(&Some(()))?;
        v.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Failed> {
        self.put(&())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Failed> {
        self.put(&())
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
    ) -> Result<(), Failed> {
        self.put(&index)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        v: &T,
    ) -> Result<(), Failed> {
        v.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        v: &T,
    ) -> Result<(), Failed> {
        v.serialize(self.put_variant(index)?)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Parts<'w>, Failed> {
        self.put_len(length).map(Parts)
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts<'w>, Failed> {
        Ok(Parts(self))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Parts<'w>, Failed> {
        Ok(Parts(self))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Parts<'w>, Failed> {
        self.put_variant(index).map(Parts)
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Parts<'w>, Failed> {
        self.put_len(length).map(Parts)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts<'w>, Failed> {
        Ok(Parts(self))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Parts<'w>, Failed> {
        self.put_variant(index).map(Parts)
    }
}

/// Writes the parts of a value one after the other.
pub(super) struct Parts<'w>(&'w mut Writer);

macro_rules! parts {
    ($($trait:ident::$method:ident($($name:ty)?);)*) => {
        $(impl ser::$trait for Parts<'_> {
            type Ok = ();
            type Error = Failed;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $(_: $name,)?
                v: &T,
            ) -> Result<(), Failed> {
                v.serialize(&mut *self.0)
            }

            fn end(self) -> Result<(), Failed> {
                Ok(())
            }
        })*
    };
}

parts! {
    SerializeSeq::serialize_element();
    SerializeTuple::serialize_element();
    SerializeTupleStruct::serialize_field();
    SerializeTupleVariant::serialize_field();
    SerializeStruct::serialize_field(&'static str);
    SerializeStructVariant::serialize_field(&'static str);
}

impl ser::SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Failed;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failed> {
        key.serialize(&mut *self.0)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, v: &T) -> Result<(), Failed> {
        v.serialize(&mut *self.0)
    }

    fn end(self) -> Result<(), Failed> {
        Ok(())
    }
}
