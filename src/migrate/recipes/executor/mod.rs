//! Executor: its local database from v1 (scopes, sources, bindings) to v2 (tenants, integrations,
//! connections).
