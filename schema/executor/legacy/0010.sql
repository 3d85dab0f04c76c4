-- A binding may name a secret of another scope.

-- part: scope of the secret
-- needs: credential_binding
-- lacks: credential_binding.secret_scope_id
ALTER TABLE credential_binding ADD COLUMN secret_scope_id text;
