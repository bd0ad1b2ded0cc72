pub struct Systemd;
