"""What is known of a scan before any network is asked."""
