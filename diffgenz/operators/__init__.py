"""What a device does: operators and the messages between ranks, as records of shapes and bytes."""
