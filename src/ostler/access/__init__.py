"""Who may: API tokens with roles. See `model.Role`, `policy.allowed`, `service.authenticate_header`."""
