//! Configuration files (`xl.cfg` and TOML) into typed values, offline.
