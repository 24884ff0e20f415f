"""Who is calling: users, teams and roles, by the fabric's own tokens or OpenID Connect."""
