from preprocessing.nuswide.command import main

main()
