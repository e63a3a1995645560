# See `aiokafka`.
