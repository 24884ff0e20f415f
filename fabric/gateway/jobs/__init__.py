"""Ray's Jobs API as the gateway speaks it: submissions go to the queue, answers come from the journal."""
