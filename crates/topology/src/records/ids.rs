//! How typed ids are written in records: as their number.

macro_rules! as_number {
    ($module:ident, $id:ident, $inner:ty) => {
        pub(super) mod $module {
            use catalog::$id;
            use serde::{Deserialize, Deserializer, Serializer};

            pub(in crate::records) fn serialize<S: Serializer>(id: &$id, to: S) -> Result<S::Ok, S::Error> {
                serde::Serialize::serialize(&id.0, to)
            }

            pub(in crate::records) fn deserialize<'de, D: Deserializer<'de>>(
                from: D,
            ) -> Result<$id, D::Error> {
                <$inner>::deserialize(from).map($id)
            }
        }
    };
}

as_number!(shard, ShardId, u32);
as_number!(map, MapId, u32);
as_number!(epoch, Epoch, u64);

pub(super) mod epoch_option {
    use catalog::Epoch;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(in crate::records) fn serialize<S: Serializer>(id: &Option<Epoch>, to: S) -> Result<S::Ok, S::Error> {
        id.map(|epoch| epoch.0).serialize(to)
    }

    pub(in crate::records) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Epoch>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Epoch))
    }
}
