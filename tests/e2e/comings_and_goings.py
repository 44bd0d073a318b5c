class Traffic: pass
