"""The door of the cluster: nodes trade tickets for the cluster's secrets here, and renew their leases."""
