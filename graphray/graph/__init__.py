"""What is to be computed: values only, without processes, sockets or clocks."""
