//! What Linux and Android tell about clocks, heat, power and load of a device.
