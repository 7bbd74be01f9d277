"""From config.yaml to typed run specs: schema, validation, grid."""
