"""What tests and benches of the runner share: tiny pipelines of every family, tiny assets, one recorded child."""
