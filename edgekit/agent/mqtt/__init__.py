"""MQTT: records that outlive a dead network, Home Assistant discovery, a last will."""
