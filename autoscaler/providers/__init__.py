"""Ring 2: one file a cloud, behind one five-method contract."""
