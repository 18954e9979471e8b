package toolkit.app;

/** How a camera's frame has to be turned, as an EXIF orientation (1 to 8). */
final class Orientation {
    private static final int[] PLAIN = {1, 6, 3, 8};
    private static final int[] MIRRORED = {2, 5, 4, 7};

    private Orientation() {}

    /**
     * @param sensor degrees that the sensor's picture is turned against the device (SENSOR_ORIENTATION)
     * @param display degrees that the screen is turned (Display.getRotation() x 90)
     * @param front a front camera, which is shown as a mirror
     */
    static int of(int sensor, int display, boolean front) {
        int clockwise = (front ? sensor + display : sensor - display + 360) % 360;
        return (front ? MIRRORED : PLAIN)[clockwise / 90];
    }

    /** Whether width and height change places. */
    static boolean swapsSides(int orientation) {
        return orientation >= 5;
    }
}
