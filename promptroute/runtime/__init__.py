"""What every stage needs: its parameters as objects, a device, and errors that read well."""
