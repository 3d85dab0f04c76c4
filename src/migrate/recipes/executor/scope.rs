//! Maps a scope of the old generation to tenant, owner and subject of the new one. Pure.

/// Owner of a row in the new generation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub(crate) tenant: String,
    /// Kind of the owner: `org` or `user`.
    pub(crate) kind: &'static str,
    /// Id of the user; empty for an organisation.
    pub(crate) subject: String,
}

impl Owner {
    /// Returns the owner of a scope. A scope that does not name an organisation of the cloud, such
    /// as one made from a folder, belongs to the organisation `local`: this machine's tenant.
    pub(crate) fn of(scope: &str, local: &str) -> Self {
        let parts: Vec<&str> = scope.split(':').collect();
        if let ["user-org", user, org] = parts[..]
            && user.starts_with("user_")
            && org.starts_with("org_")
        {
            return Self { tenant: org.to_owned(), kind: "user", subject: user.to_owned() };
        }
        let cloud = scope.starts_with("org_") && parts.len() == 1;
        Self::org(if cloud { scope } else { local })
    }

    /// Returns the owner that is the whole organisation of a tenant.
    pub(crate) fn org(tenant: &str) -> Self {
        Self { tenant: tenant.to_owned(), kind: "org", subject: String::new() }
    }

    /// Returns the part of a tenant within which slugs of OAuth clients are unique.
    pub(crate) fn partition(&self) -> String {
        match self.kind {
            "user" => format!("user:{}:{}", self.subject, self.tenant),
            _ => format!("org:{}", self.tenant),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_cloud_scopes_match() {
        let of = |scope| {
            let owner = Owner::of(scope, "local-1");
            format!("{} {} {}", owner.tenant, owner.kind, owner.subject)
        };
        assert_eq!(of("user-org:user_1:org_2"), "org_2 user user_1");
        assert_eq!(of("user-org:user_:org_"), "org_ user user_");
        assert_eq!(of("org_acme"), "org_acme org ");
        for scope in ["org_a:b", "user-org:u:org_1", "user-org:user_1:org_2:x", "", "my folder"] {
            assert_eq!(of(scope), "local-1 org ", "{scope}");
        }
    }
}
