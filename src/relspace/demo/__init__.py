"""The demo: photographs seen by two pretrained networks, with the truth drawn over them by hand."""
